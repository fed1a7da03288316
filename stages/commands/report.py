"""report: every plot of the repository as pictures, and one page that shows them; no network, no
browser needed.
"""

import html
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from stages.errors import UserError
from stages.files import atomic_write
from stages.params import load_params


def report(
    revisions: Annotated[
        list[str] | None,
        typer.Argument(help="git revisions or experiments to draw beside the workspace"),
    ] = None,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="folder for the page and its pictures")
    ] = Path("build/report"),
) -> None:
    """Draw what `dvc plots` knows as PNG, and a page with the chain's figures:
    build/report/index.html.

    Examples:

      python -m stages report

      python -m stages report main exp-abc12 -o /tmp/report
    """
    import vl_convert

    params = load_params()
    output.mkdir(parents=True, exist_ok=True)
    parts = []
    for task in params.compare:
        chain = Path("metrics/compare", task, "chain.csv")
        if not chain.is_file():
            continue
        parts.append(f"<h2>{html.escape(task)}</h2>{_table(chain)}")
        for name in ("chain.csv", "matrix.csv", "categories.csv", "curves.csv"):
            picture = output / f"{task}_{Path(name).stem}.png"
            picture.write_bytes(
                vl_convert.vegalite_to_png(_vega(chain.with_name(name), revisions or []), scale=2)
            )
            parts.append(f'<img src="{picture.name}" alt="{task} {Path(name).stem}">')
    if not parts:
        raise UserError("metrics/compare: nothing has been compared yet; run `dvc repro` first")
    with atomic_write(output / "index.html") as page:
        page.write(
            '<!doctype html><meta charset="utf-8"><title>Tsugiki</title>'
            "<style>body{font:16px sans-serif;max-width:60rem;margin:2rem auto}"
            "img{display:block;margin:1rem 0;max-width:100%}td,th{padding:.2rem "
            ".8rem;text-align:left}</style>" + "\n".join(parts) + "\n"
        )
    typer.echo(
        f"{output / 'index.html'}: {sum(part.startswith('<img') for part in parts)} pictures"
    )


def _vega(path: Path, revisions: list[str]) -> str:
    """The Vega-Lite specification that DVC fills in for one plot."""
    verb = ["diff", *revisions, "workspace", "--targets"] if revisions else ["show"]
    command = [sys.executable, "-m", "dvc", "plots", *verb, str(path), "--show-vega"]
    made = subprocess.run(command, capture_output=True, text=True)
    if made.returncode:
        raise UserError(
            f"{path}: dvc could not draw it: {made.stderr.strip().splitlines()[-1]}; run `dvc "
            f"repro` first"
        )
    return made.stdout


def _table(chain: Path) -> str:
    """The chain with its intervals and verdicts as HTML, everything from the file escaped."""
    import pandas as pd

    table = pd.read_csv(chain, dtype=str, keep_default_na=False)  # every cell as it stands there
    with pd.option_context("display.max_colwidth", None):
        return str(
            table.rename(columns=lambda name: name.replace("_", " ")).to_html(index=False, border=0)
        )
