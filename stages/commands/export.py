"""export: a trained run as what other programs load: merged weights, a PEFT adapter, or
mlx-lm's.
"""

import json
import shutil
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from stages import entries
from stages.backends.shared import process
from stages.errors import UserError
from stages.files import atomic_folder, read_json, write_json
from stages.params import load_params, run_entry


class Form(StrEnum):
    """What is written."""

    merged = "merged"
    peft = "peft"
    mlx = "mlx"


class Precision(StrEnum):
    """Of merged weights."""

    bfloat16 = "bfloat16"
    float32 = "float32"


def export(
    run: Annotated[str, typer.Argument(help="a trained run of params.yaml")],
    output: Annotated[Path, typer.Option("-o", "--output", help="a folder that is not there yet")],
    form: Annotated[
        Form, typer.Option(help="merged: full weights; peft, mlx: the adapter alone")
    ] = Form.merged,
    precision: Annotated[
        Precision,
        typer.Option(
            help="of merged weights. bfloat16 rounds them, so that some greedy answers differ from "
            "those of the run here; float32 does not, and takes twice the room"
        ),
    ] = Precision.bfloat16,
    licence: Annotated[
        str, typer.Option(help="for the model card; the base's and the corpora's bind it")
    ] = "other",
) -> None:
    """Write a run for use elsewhere, with a model card: lineage, corpora, scores with their
    intervals.

    Examples:

      python -m stages export gec-002 -o out/gec-002

      python -m stages export gec-002 -o out/gec-002 --precision float32

      python -m stages export gec-002 -o out/gec-002-mlx --form mlx
    """
    spec = run_entry(load_params(), run)
    model = Path("models", run)
    if not model.is_dir():
        raise UserError(
            f"{model}: not trained yet; run `dvc repro train@{run}`, or `dvc pull {model}` where a "
            f"remote has it"
        )
    if output.exists():
        raise UserError(f"{output}: there already; name a folder that is not, or remove it")
    process.set_up("portable")
    with atomic_folder(output) as half:
        if form is Form.merged:
            merged(model, spec.base, half, precision)
        else:
            {Form.peft: peft, Form.mlx: mlx}[form](model, spec.base, half)
        try:
            card = model_card(run, spec, licence)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise UserError(
                f"{model / 'lineage.json'} or the run's scores are not as `train` and `evaluate` "
                "write them; `dvc checkout` brings those back"
            ) from None
        (half / "README.md").write_text(card, encoding="utf-8")
    if form is Form.merged and precision is Precision.bfloat16:
        typer.echo(
            "Its weights are rounded to bfloat16, so that greedy answers may differ from those of "
            "the run here; --precision float32 keeps them, in twice the room"
        )
    typer.echo(
        f"{output}: {run} as {form.value}, "
        f"{sum(file.stat().st_size for file in output.iterdir()) / 2**20:.1f} MiB"
    )


def merged(model: Path, base: str, output: Path, precision: Precision = Precision.bfloat16) -> None:
    """Base and adapter in one checkpoint, added in float32.

    Always into the full-precision base: what an adapter adds is less than a step of 4-bit weights,
    and would be rounded away.
    """
    import torch

    from stages.backends.pytorch.models import model_for_answering
    from stages.backends.shared import model_folders
    from stages.backends.shared.tokenizers import load_tokenizer

    if model_folders.is_adapter(model) and model_folders.is_in_4_bits(model_folders.locate(base)):
        raise UserError(
            f"{base}: its own weights are in 4 bits, which would round the adapter away; use "
            "--form peft, which is loaded beside them"
        )
    weights: Any = model_for_answering(str(model), base)
    dtype = getattr(torch, precision.value)
    model_folders.write_weights(output, weights.to(dtype), load_tokenizer(str(model), base))


def peft(model: Path, base: str, output: Path) -> None:
    """The files of the run as they are, but for a base of the hub, which is named as there."""
    from stages.backends.shared import model_folders

    if not model_folders.is_adapter(model):
        raise UserError(f"{model}: full weights, not an adapter; use --form merged")
    unwanted = shutil.ignore_patterns(model_folders.LINEAGE, "last")
    shutil.copytree(model, output, ignore=unwanted, dirs_exist_ok=True)
    named = model_folders.identity(base)
    if "hub_id" in named:
        known = {"base_model_name_or_path": named["hub_id"], "revision": named["revision"]}
        config = model_folders.adapter_config(output) | known
        write_json(output / model_folders.ADAPTER_CONFIG, config)


def mlx(model: Path, base: str, output: Path) -> None:
    """adapters.safetensors and adapter_config.json as mlx-lm reads them."""
    from stages.backends.shared import adapters, mlx_adapters, model_folders

    if not model_folders.is_adapter(model):
        raise UserError(f"{model}: full weights, which mlx-lm loads as they are; use --form merged")
    config, state = adapters.read(model)
    tensors = mlx_adapters.to_mlx(state)
    base_config = read_json(model_folders.locate(base) / "config.json")
    mlx_config = mlx_adapters.config_to_mlx(config, tensors, base_config["num_hidden_layers"])
    model_folders.write_tensors(output / mlx_adapters.MLX_ADAPTER, tensors)
    on_hub = model_folders.identity(base).get("hub_id")
    named = {"model": on_hub} if on_hub else {}
    write_json(output / model_folders.ADAPTER_CONFIG, mlx_config | named)


def model_card(run: str, spec: entries.Run, licence: str) -> str:
    """What it is, from what it came, and how well it does, in the form that hubs read."""
    lineage = read_json(Path("models", run, "lineage.json"))
    scored = Path("metrics/evaluate", spec.task, f"{run}.json")
    if not scored.is_file():
        raise UserError(f"{scored}: not there; `dvc repro evaluate@{run}` scores the run first")
    scores = read_json(scored)
    base = lineage["base"].get("hub_id", lineage["base"].get("path"))
    tags = ["tsugiki", spec.task]
    front = {
        "license": licence,
        "base_model": base,
        "tags": tags,
        "revision": lineage["base"].get("revision"),
    }
    lines = [
        "---",
        *(f"{key}: {json.dumps(value)}" for key, value in front.items() if value is not None),
        "---",
        "",
    ]
    corpus = lineage["corpus"]
    bound_by = licence.replace("|", r"\|")  # which would end the cell
    shares = ", ".join(f"{name} {share:g}" for name, share in corpus["shares"].items())
    lines += [
        f"# {run}",
        "",
        f"Task {spec.task}, grown on `{base}` from `{lineage['parent']['path']}` (MD5 "
        f"{lineage['parent']['md5']}).",
        "",
        "| | |",
        "|---|---|",
        f"| corpora, and how often an epoch has each of their rows | {shares} |",
        f"| MD5 of the training and validation rows | {corpus['train_md5']}, "
        f"{corpus['valid_md5']} |",
        f"| settings | {lineage['config_md5']} |",
        f"| training | {lineage['rows']:,} rows; the best of {lineage['steps']:,} steps was "
        f"{lineage['best_step']:,} |",
        f"| score | {scores['score']:.3f} ({scores['low']:.3f} to {scores['high']:.3f}, 95 %), "
        f"{scores['n']:,} held-out rows |",
        f"| simple baseline | {scores['baseline']:.3f} |",
        f"| untuned base | {scores['base']:.3f} |",
        f"| licence | {bound_by}; the base's and the corpora's licences bind this model too |",
        "",
    ]
    return "\n".join(lines)
