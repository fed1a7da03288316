"""renumber: a version that another branch has too gets a number of its own."""

import re
import subprocess
from pathlib import Path
from typing import Annotated

import typer

from stages.commands import own_files
from stages.commands.begin import LOCK, clear, orphans, require_clean_tree
from stages.commands.begun import pointer_of
from stages.commands.named_artifacts import GRAPH
from stages.commands.next_run import ancestors
from stages.commands.version_number import free_number
from stages.errors import UserError
from stages.layers import Params
from stages.params import PARAMS, entry, load_params, validate


def renumber(
    version: Annotated[str, typer.Argument(help="a corpus of yours, with its run: typst-004")],
) -> None:
    """Give a version the next number that is free on every branch of this clone: its corpus, its
    file, its run and all that names them. What was made of it goes, and is made again.

    It wants a clean tree, so that `git checkout .` and `git clean` bring everything back.

    Examples:

      python -m stages renumber typst-004
    """
    params = load_params()
    corpus = entry(params.corpora, version, "corpora")
    path = Path(corpus.file)
    if not re.fullmatch(rf"train_{version[-3:]}\..*", path.name) or not pointer_of(path).is_file():
        raise UserError(
            f"{version}: {path} is no file that `new` took in under this number; give it another "
            "one by hand"
        )
    require_clean_tree("renumber")
    number = max(free_number(params, corpus.task), *(_free_on(ref, corpus.task) for ref in _refs()))
    new, to = f"{corpus.task}-{number:03d}", path.with_name(f"train_{number:03d}{path.name[9:]}")
    naming = [pointer_of(path), path.with_name("README.md"), GRAPH, PARAMS]
    variants = [name for name in params.variants if name.startswith(f"{version}-")]
    names = {version: new, path.name: to.name}
    names |= {name: name.replace(version, new, 1) for name in variants}
    texts = {
        file: _renamed(file.read_text(encoding="utf-8"), names) for file in naming if file.is_file()
    }
    runs = _made_again(validate(texts[PARAMS], PARAMS), new)
    for file, text in texts.items():
        with own_files.written(file) as written:
            written.write(text)
    if path.exists():
        path.rename(to)
    pointer_of(path).rename(pointer_of(to))
    if LOCK.is_file():
        clear(orphans())
    typer.echo(f"{version} is {new} now, and {path} is {to}.")
    typer.echo(f'Git:   git add --all . && git commit --message "{version} is {new}"')
    typer.echo(
        f"Next:  git merge the other branch; `parent: models/{version}` in {PARAMS} lets {new} go "
        f"on from the other one; dvc repro {' '.join(runs) or f'compare@{corpus.task}'}"
    )


def _made_again(params: Params, version: str) -> list[str]:
    """The last stages of the runs that learn of the version, of those that stand on them, and of
    their variants.
    """
    learn = {
        run
        for run, spec in params.runs.items()
        if version in (run, spec.corpus, spec.validation, *spec.mix)
    }
    runs = [run for run in params.runs if learn & {run, *ancestors(params, run)}]
    others = [name for name, variant in params.variants.items() if variant.model_of in runs]
    return [
        *(f"evaluate@{run}" for run in runs),
        *(f"evaluate-variant@{name}" for name in others),
    ]


def _renamed(text: str, names: dict[str, str]) -> str:
    for old, new in names.items():
        text = re.sub(rf"(?<![\w-]){re.escape(old)}(?![\w-])", new, text)
    return text


def _refs() -> list[str]:
    command = ["git", "for-each-ref", "--format=%(refname)", "refs/heads", "refs/remotes"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def _free_on(ref: str, task: str) -> int:
    """The number after a task's last one on a branch, whose params.yaml may be an older one."""
    command = ["git", "show", f"{ref}:{PARAMS}"]
    text = subprocess.run(command, capture_output=True, text=True).stdout
    return 1 + max((int(each) for each in re.findall(rf"\b{task}-([0-9]{{3}})\b", text)), default=0)
