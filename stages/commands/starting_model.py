"""The model that one's own project starts from: found, and put where params.yaml names it."""

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import typer

from stages.backends.shared import model_folders
from stages.errors import UserError
from stages.files import write_json

ON_THE_HUB = re.compile(r"(?P<hub_id>[\w.-]+/[\w.-]+)(@(?P<revision>.+))?")
HOW = (
    "a base is a checkpoint folder of transformers, a models/bases/NAME.json, "
    "or OWNER/NAME@COMMIT on the hub"
)


@dataclass(frozen=True)
class Start:
    """The model to start from.

    path: as params.yaml names it.   folder: elsewhere, to be copied there.   reference: what a
    models/bases/NAME.json is to say.
    """

    path: str
    folder: Path | None = None
    reference: dict[str, str] | None = None

    def lacks_template(self) -> bool:
        """Whether it is here and has no chat template; of one on the hub it is not known yet."""
        from stages.backends.shared.tokenizers import load_tokenizer

        here = Path(self.path).is_dir()
        return here and not load_tokenizer(self.path, self.path).chat_template

    def take(self) -> None:
        """Put it where params.yaml will name it."""
        place = Path(self.path)
        if self.reference:
            write_json(place, self.reference)
        if self.folder:
            files = [file for kind in model_folders.MODEL_FILES for file in self.folder.glob(kind)]
            size = sum(file.stat().st_size for file in files)
            typer.echo(f"{place}: copying {size / 2**20:,.0f} MB from {self.folder}")
            half = place.with_name(f"{place.name}.partial")
            shutil.rmtree(half, ignore_errors=True)
            half.mkdir(parents=True)
            try:
                for file in files:
                    shutil.copy2(file, half)
            except OSError as error:
                shutil.rmtree(half, ignore_errors=True)
                raise UserError(
                    f"{place}: {self.folder} was not copied there ({error.strerror}); make room, "
                    "then run again"
                ) from None
            half.rename(place)


def start_from(base: str) -> Start:
    """The model that a user names. Raises UserError where there is none, and for one that cannot be
    started from.
    """
    path = Path(base).expanduser()
    if path.suffix == ".json" and path.is_file():
        model_folders.identity(str(path))
        if inside := within(path):
            return Start(inside)
        raise UserError(f"{path}: lies outside the repository; copy it into models/bases")
    if path.is_dir():
        model_folders.locate(str(path))
        if not any(path.glob("*.safetensors")):
            raise UserError(
                f"{base}: no .safetensors in it, and other forms can run code; convert it"
            )
        if inside := within(path):
            return Start(inside)
        name = re.sub(r"[^a-z0-9_.-]+", "-", path.resolve().name.lower())
        place = Path("models/bases", name)
        if place.exists():
            raise UserError(
                f"{place}: there is one of this name; name it as the base, or remove it"
            )
        return Start(str(place), folder=path)
    if named := ON_THE_HUB.fullmatch(base):
        hub_id, revision = named["hub_id"], named["revision"] or ""
        reference = {"hub_id": hub_id, "revision": commit(hub_id, revision)}
        place = Path("models/bases", f"{hub_id.partition('/')[2].lower()}.json")
        if place.exists() and json.loads(place.read_text(encoding="utf-8")) != reference:
            raise UserError(
                f"{place}: it names another model or commit; name the file as the base, or "
                "remove it"
            )
        return Start(str(place), reference=reference)
    raise UserError(f"{base}: no such folder or file; {HOW}")


def within(path: Path) -> str:
    """The path from the top of the repository, or "" where it lies elsewhere."""
    here = Path.cwd().resolve()
    return str(path.resolve().relative_to(here)) if path.resolve().is_relative_to(here) else ""


def commit(hub_id: str, revision: str) -> str:
    """The 40 digits of a hub model's commit; the newest where none is named."""
    if re.fullmatch("[0-9a-f]{40}", revision):
        return revision
    from huggingface_hub import HfApi

    try:
        found = HfApi().model_info(hub_id, revision=revision or None).sha
    except Exception as error:  # its HTTP library has errors of its own, which change with it
        raise UserError(
            f"{hub_id}: its commit could not be asked for ({type(error).__name__}); connect to the "
            f"hub, or give it: {hub_id}@COMMIT, with the 40 digits that its page shows under "
            '"Files", "History"'
        ) from None
    typer.echo(f"{hub_id}: {revision or 'main'} is {found}")
    return str(found)
