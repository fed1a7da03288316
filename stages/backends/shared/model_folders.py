"""What a base and full weights look like on disk, byte for byte alike however often they are
written.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from stages.entries import Base
from stages.errors import UserError
from stages.files import read_json

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

ADAPTER_CONFIG, LINEAGE = "adapter_config.json", "lineage.json"
MODEL_FILES = ("*.json", "*.safetensors", "*.model", "*.jinja", "*.txt")  # never a pickle
OTHER_FORMS = ("*/*.safetensors", "consolidated*", "*.fp16.*")  # of the same weights
CONFIG_FILES = ("config.json",)
HEAD_NOT_PLAIN = (
    "{folder}: {kind} caps or scales its logits, and the loss here is computed without that; "
    "use a base of another architecture"
)
NOT_NUMBERS = (
    "{folder}: its logits are not numbers, so some of its weights are not either; fetch it again, "
    "or use another base"
)
# The file of a step head, and the part of the model that its tensors fill.
HEAD, STEP_HEAD = "reward_head.safetensors", "step_head"


def refuse_own_code(folder: str | Path, error: Exception) -> None:
    """Raise UserError where a library would load `folder` only with Python code that lies in it.

    transformers and mlx-lm both name the option that would let them; transformers, not told, asks
    on a terminal.
    """
    if "trust_remote_code" in str(error):
        raise UserError(
            f"{folder}: the base brings its own code, which is never run; "
            "name a base of an architecture that transformers knows"
        ) from None


@contextmanager
def loading(
    folder: str | Path, fault: str, remedy: str = "fetch it again, or name another base"
) -> Iterator[None]:
    """Raise UserError for whatever a library raises of files that it cannot read: each has errors
    of its own, and some raise none but Exception.

    fault: what the files are not.   Memory that runs out is no fault of theirs.
    """
    try:
        yield
    except (UserError, MemoryError):
        raise
    except Exception as error:
        if "out of memory" in str(error):
            raise
        refuse_own_code(folder, error)
        bare = isinstance(error, LookupError | TypeError | AttributeError)  # a key, a type alone
        kind = f"{type(error).__name__}: " if bare else ""
        said = shorten(f"{kind}{error}", 240)
        raise UserError(f"{folder}: {fault}: {said}; {remedy}") from None


def is_adapter(folder: Path) -> bool:
    return (folder / ADAPTER_CONFIG).is_file()


def locate(base: str, files: Sequence[str] = MODEL_FILES) -> Path:
    """The folder of a base checkpoint. A `models/bases/NAME.json` is a hub reference: {"hub_id": …,
    "revision": 40 hex digits}.

    Raises UserError for a folder without weights, an adapter, a reference without a pinned
    revision, a hub out of reach.
    """
    path = Path(base)
    if path.suffix == ".json":
        return _snapshot(path, files)
    if is_adapter(path):
        raise UserError(
            f"{base}: an adapter cannot be a base; name the base it was grown on, {origin(path)}, "
            f"and make this the parent"
        )
    if not path.exists():
        raise UserError(
            f"{base}: not there; `dvc pull {base}` brings it where a remote has it, `dvc repro` "
            "makes one of params.yaml"
        )
    if not (path / "config.json").is_file():
        raise UserError(
            f"{base}: no config.json in it; a base is a checkpoint folder of transformers or a "
            f"models/bases/NAME.json"
        )
    return path


def _snapshot(reference: Path, files: Sequence[str]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    identity = _reference(reference)
    try:
        return Path(
            snapshot_download(
                identity["hub_id"],
                revision=identity["revision"],
                allow_patterns=list(files),
                ignore_patterns=list(OTHER_FORMS),
            )
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise UserError(
            f"{reference}: {identity['hub_id']} at {identity['revision'][:12]} could not be had "
            f"({type(error).__name__}); "
            "connect to the hub, log in where the model is gated, or name a local checkpoint "
            "folder as the base"
        ) from None


def _reference(path: Path) -> dict[str, str]:
    try:
        identity = read_json(path)
        hub_id, revision = identity["hub_id"], identity["revision"]
        if not (isinstance(hub_id, str) and isinstance(revision, str)):
            raise TypeError
    except (UserError, KeyError, TypeError):
        raise UserError(
            f'{path}: a base reference is {{"hub_id": "OWNER/NAME", "revision": "40 hex digits"}}; '
            f"write it so"
        ) from None
    if len(revision) != 40 or set(revision) - set("0123456789abcdef"):
        raise UserError(
            f"{path}: revision {revision!r} is not pinned; write the 40-digit commit hash, never a "
            f"branch or tag"
        )
    return {"hub_id": hub_id, "revision": revision}


def identity(base: str) -> dict[str, str]:
    """What lineage.json says of a base: its path, or its hub id and revision."""
    return _reference(Path(base)) if base.endswith(".json") else {"path": base}


def is_base(named: str, revision: str | None, base: str) -> bool:
    """Whether what an adapter's config names is this base of params.yaml, by whichever path or by
    its place on the hub.
    """
    if base.endswith(".json"):
        reference = _reference(Path(base))
        if named == reference["hub_id"]:
            return revision in (None, reference["revision"])
    return Path(named).resolve() == Path(base).resolve()


def is_in_4_bits(folder: Path) -> bool:
    """Whether a checkpoint's own weights are in bitsandbytes' 4 bits. Raises UserError for other
    quantised ones, MLX's left out: nothing here trains on them.
    """
    config = read_json(folder / "config.json")
    form = config.get("quantization_config")
    if not form or "quantization" in config:
        return False
    method = form.get("quant_method") if isinstance(form, dict) else form
    if method == "bitsandbytes" and form.get("load_in_4bit"):
        return True
    raise UserError(
        f"{folder}: its weights are quantised by {method}; use the model that they were made of, "
        "with method: qlora where memory is short"
    )


def origin(folder: Path) -> str:
    """The base that an adapter was grown on, as params.yaml named it."""
    config = adapter_config(folder)  # "model" in mlx-lm's form
    return str(config.get("base_model_name_or_path", config.get("model")))


def adapter_config(folder: Path) -> dict[str, Any]:
    """As it stands on disk, in PEFT's form or mlx-lm's."""
    return read_json(folder / ADAPTER_CONFIG)


def write_tensors(path: Path, tensors: dict[str, Any]) -> None:
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(
        {key: value.contiguous() for key, value in sorted(tensors.items())},
        path,
        metadata={"format": "pt"},
    )


def write_weights(
    folder: Path, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase"
) -> None:
    """A full checkpoint that transformers, PEFT and mlx-lm load; a step head beside it."""
    head = getattr(model, STEP_HEAD, None)
    if head is not None:
        write_tensors(folder / HEAD, head.state_dict())
    model.config._name_or_path = ""
    state = {
        name: weights
        for name, weights in model.state_dict().items()
        if not name.startswith(f"{STEP_HEAD}.")
    }
    model.save_pretrained(folder, state_dict=state)
    write_tokenizer(folder, tokenizer)


def write_tokenizer(folder: Path, tokenizer: "PreTrainedTokenizerBase") -> None:
    tokenizer.name_or_path = ""
    # Whether the process that loaded it might ask the hub (HF_HUB_OFFLINE) is to decide no byte.
    if "local_files_only" in tokenizer.init_kwargs:
        tokenizer.init_kwargs["local_files_only"] = False
    tokenizer.save_pretrained(folder)


def write_base(folder: Path, tokenizer: "PreTrainedTokenizerBase", base: Base) -> None:
    """An untrained grouped-query Llama (Ainslie et al. 2023) in `folder`, with its tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.manual_seed(base.seed)
    architecture = base.model_dump(exclude={"corpus", "seed", "split", "vocab_size"})
    special = {
        f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")
    }
    config = LlamaConfig(
        vocab_size=len(tokenizer), tie_word_embeddings=True, **architecture, **special
    )
    write_weights(folder, LlamaForCausalLM(config), tokenizer)
