"""check: before a long training, whether all that a run needs is there and fits together."""

import importlib.metadata
import re
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from stages import backends, entries, settings, stage_config
from stages.commands.read_corpus import read_corpus
from stages.errors import UserError
from stages.layers import Params
from stages.params import load_params, run_entry
from stages.records import Row


def check(
    run: Annotated[str | None, typer.Argument(help="a run of params.yaml")] = None,
    clean: Annotated[
        bool,
        typer.Option(
            "--clean",
            help="list checkpoints and answers under .scratch/ that no run of params.yaml would go "
            "on from, and tokens, which a training makes again",
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="with --clean: remove what it lists")] = False,
) -> None:
    """Look at a run's corpora, base, parent, precision, memory and packages, and tell all that is
    wrong at once (exit code 2).

    Nothing is written, and no weights are loaded: the base is looked at by its config.

    Examples:

      python -m stages check typst-003

      python -m stages check --clean

      python -m stages check --clean --yes
    """
    params = load_params()
    if clean:
        list_orphans(params, yes)
    if run is None:
        if not clean:
            raise UserError(
                "check: which run? `python -m stages check typst-003`, or `check --clean` for old "
                "checkpoints"
            )
        return
    spec = run_entry(params, run)
    run_settings = params.resolve(run)
    kinds = dict[str, Row]()
    looks: list[tuple[str, Callable[[], str]]] = [
        ("packages", packages),
        *(
            (f"corpus {name}", partial(corpus_of, name, params.corpora[name], params, kinds))
            for name in params.shares(run)
        ),
        ("base", partial(base_of, spec.base, run_settings, kinds)),
        ("parent", partial(parent_of, spec, run_settings)),
        ("precision", partial(precision_of, run_settings)),
        ("memory", partial(memory_of, spec.base, run_settings)),
    ]
    if run_settings.launch != settings.Launch():
        looks.append(("launch", partial(launch_of, run_settings)))
    title = escape(f"{run}: {run_settings.method} on {spec.base}")
    table, faults = Table("", "", "", title=title), 0
    for name, look in looks:
        try:
            table.add_row(name, "ok", Text(look()))
        except UserError as error:
            faults += 1
            table.add_row(name, "[red]fault[/]", Text(str(error)))
    Console().print(table)
    if faults:
        raise UserError(f"{run}: {faults} of {len(looks)} checks found a fault; see above")


def list_orphans(params: Params, remove: bool) -> None:
    """Checkpoints of trainings that were given up, whose data, settings or code are others now, and
    answers of models that are; those of experiments, which are in no params.yaml until they are
    applied; and all tokens.
    """
    from stages.backends.shared import answer_cache, checkpoints, kept_tokens

    def removed(path: Path) -> bool:
        if path in answers:
            path.unlink()
        elif path in tokens:
            checkpoints.remove(path)
        else:
            return checkpoints.discard(path)
        return True

    answers = answer_cache.unused(kept_answers(params))
    tokens = kept_tokens.whole()
    found = [*tokens, *checkpoints.orphans(params.runs), *answers]
    for path in found:
        size = sum(file.stat().st_size for file in [path, *path.rglob("*")] if file.is_file())
        typer.echo(
            f"{'removed ' if remove and removed(path) else ''}{path}, {size / 2**20:.1f} MiB"
        )
    typer.echo(
        f"{len(found) - len(answers) - len(tokens)} folders of checkpoints that no run goes on "
        f"from, {len(answers)} files of answers that no run has a use for, {len(tokens)} folders "
        "of tokens, which a training makes again"
    )
    if found and not remove:
        typer.echo(
            "an interrupted experiment, or a run whose inputs are not checked out, may go on from "
            "one of them; `check --clean --yes` removes them"
        )


def kept_answers(params: Params) -> set[Path]:
    """The files of answers that the next prediction of a run would look into."""
    from stages.backends.shared import answer_cache

    kept = set[Path]()
    for run in (*params.runs, *params.variants):
        for by in ("model", "base"):
            # its config or its weights are not here: not made yet, or not checked out
            with suppress(UserError, OSError):
                config = stage_config.load("predict", run)
                kept.add(answer_cache.path_of(config[by], config["base"], config))
    return kept


def packages() -> str:
    """The installed versions against requirements.txt."""
    wanted = re.findall(
        r"^([\w.-]+)(?:\[\w+\])?==([\w.]+)",
        Path("requirements.txt").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    others = []
    for name, version in wanted:
        try:
            installed = importlib.metadata.version(name).partition("+")[0]
        except importlib.metadata.PackageNotFoundError:
            installed = "missing"
        if installed != version:
            others.append(f"{name} {installed} instead of {version}")
    if others:
        raise UserError(f"{', '.join(others)}; run `pip install -r requirements.txt`")
    return f"{len(wanted)} packages as in requirements.txt"


def corpus_of(name: str, corpus: entries.Corpus, params: Params, kinds: dict[str, Row]) -> str:
    """Whether a corpus can be read, and its file is named by its number and has a row in the table
    of versions; another corpus of that file needs none.
    """
    path = Path(corpus.file)
    if not re.fullmatch(r"([a-z]+_\d{3}|eval)\..*", path.name):
        raise UserError(
            f"{path}: a version's file is named train_NNN or style_NNN with three digits, or eval; "
            f"rename it"
        )
    if not path.is_file():
        raise UserError(
            f"{path}: not there; `dvc repro prepare@{name}` makes a demo corpus, `dvc pull` "
            f"fetches your own"
        )
    found = read_corpus(params, corpus)
    report = found.report
    kinds.update(found.kinds)
    readme = path.with_name("README.md")
    table = readme.read_text(encoding="utf-8") if readme.is_file() else ""
    if f"| {name} |" not in table and f"| {path.name} |" not in table:
        raise UserError(
            f"{readme}: no row for {name} in its table of versions; add one that says what is new"
        )
    forms = ", ".join(f"{form} ({count:,})" for form, count in report.forms.most_common())
    parts = [f"{report.read - report.dropped.total():,} rows, read as {forms}"]
    parts += [f"dropped: {report.reasons()}"] if report.dropped else []
    parts += [report.not_used()] if report.unused else []
    return "; ".join(parts)


def base_of(base: str, run_settings: settings.Options, kinds: dict[str, Row]) -> str:
    """Architecture, size and chat template of the base, which must write each kind of conversation
    that the corpora have.
    """
    from stages.backends.shared import model_folders
    from stages.backends.shared.outline import outline
    from stages.backends.shared.tokenizers import load_tokenizer
    from stages.text.chat import encode, end_of_turn

    folder = model_folders.locate(base)
    model = outline(folder)  # first: of a config that it cannot read, a tokenizer is blamed
    tokenizer = load_tokenizer(str(folder), base, run_settings)
    end = tokenizer.convert_ids_to_tokens(end_of_turn(tokenizer))
    for row in kinds.values():
        try:
            encode(tokenizer, row, run_settings.max_length_tokens, learn=run_settings.learn)
        except UserError as error:
            raise UserError(f"{row['id']}: {error}") from None
    sizes = f"{model.num_parameters():,} parameters, {len(tokenizer):,} tokens"
    return f"{model.config.model_type}, {sizes}; a turn ends with {end}"


def launch_of(run_settings: settings.Options) -> str:
    """Whether there are as many cards as processes."""
    from stages.backends.shared import workers

    launch, device = run_settings.launch, run_settings.device
    workers.require_cards(launch, device)
    each = f"{workers.processes_here(launch, device)} on each of {launch.nodes} machines"
    return f"{workers.all_processes(launch, device)} processes, {each}, strategy {launch.strategy}"


def parent_of(spec: entries.Run, run_settings: settings.Options) -> str:
    """Whether the run can go on from its parent."""
    from stages.backends.shared import adapters
    from stages.backends.shared.tokenizers import add_tokens, load_tokenizer

    if spec.parent == spec.base:
        return "starts at the base"
    if not Path(spec.parent).is_dir():
        raise UserError(
            f"{spec.parent}: not trained yet; run `dvc repro train@{Path(spec.parent).name}`"
        )
    if run_settings.method != "full":
        added = add_tokens(load_tokenizer(spec.base, spec.base), run_settings.added_tokens)
        adapters.check_continues(Path(spec.parent), spec.base, run_settings.lora, added)
    return f"continues from {spec.parent}"


def precision_of(run_settings: settings.Settings) -> str:
    """In which numbers it multiplies here, and whether others would be faster."""
    backend = backends.load(run_settings.backend, run_settings.exact)
    found = backend.precision(run_settings)
    return f"{found.name}: {found.why}" + (f"; warning: {found.warning}" if found.warning else "")


def memory_of(base: str, run_settings: settings.Settings) -> str:
    """What training takes, against what the device has."""
    from stages.backends.shared import model_folders

    backend = backends.load(run_settings.backend, run_settings.exact)
    rows, tokens = run_settings.per_device_train_batch_size, run_settings.max_length_tokens
    planned = backend.plan_memory(model_folders.locate(base), run_settings, rows, tokens)
    planned.require_room()
    return f"{planned.verdict}, for full micro-batches of {rows} × {tokens} tokens"
