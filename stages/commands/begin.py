"""begin: a clone of this repository becomes a project of one's own, on a base that one names."""

import shutil
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any

import typer
from ruamel.yaml import YAML

from stages.commands import own_files
from stages.commands.edited_params import edited_params
from stages.commands.named_artifacts import keep_artifacts_of
from stages.commands.starting_model import start_from
from stages.errors import UserError
from stages.files import atomic_write
from stages.layers import Params
from stages.params import PARAMS, entry, load_params

LOCK = Path("dvc.lock")
PRESET = "pretrained"  # of params.yaml: what suits such a base, where the defaults suit the demo's


def begin(
    base: Annotated[
        str,
        typer.Argument(help="the pretrained model: a folder, or OWNER/NAME[@COMMIT] on the hub"),
    ],
    keep_task: Annotated[
        list[str] | None,
        typer.Option(help="a task whose demo chain stays, with what it stands on; can be repeated"),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
) -> None:
    """Make a clone a project of your own: take the demo out, and set the base that the first run of
    each task starts from.

    What goes are the demo's corpora, bases and runs, their entries in params.yaml, dvc.lock and
    data/*/README.md, and their files and scores here. Tasks and presets stay. The defaults become
    those of the preset `pretrained`, because the demo's suit its own base of a million weights. A
    folder elsewhere is copied into models/bases; of a hub model the commit is noted, and a run
    fetches it.

    It wants a clean tree, so that `git checkout .` brings everything back. Where it was stopped,
    the same command ends it.

    Examples:

      python -m stages begin ~/models/SmolLM2-135M-Instruct

      python -m stages begin Qwen/Qwen3-0.6B --yes

      python -m stages begin models/bases/mine --keep-task typst
    """
    params = load_params()
    for task in keep_task or []:
        entry(params.tasks, task, "tasks")
    demo = demo_of(params, keep_task or [])
    if not any(demo.values()):
        keep_artifacts_of(params)
        if not clear(orphans()):
            raise UserError(
                f"{PARAMS}: there is nothing of the demo in it; to start from another model, "
                "change `base` there"
            )
        typer.echo("What a `begin` that was stopped had left of the demo is removed.")
        tell_next()
        return
    require_clean_tree("begin")
    start = start_from(base)
    for group, names in demo.items():
        if names:
            typer.echo(f"{group + ':':<11}{', '.join(names)}")
    if not yes:
        if not sys.stdin.isatty():
            raise UserError("begin: nobody is there to be asked; give --yes to take this out")
        typer.confirm("Take these out of the project, with their files and scores?", abort=True)
    start.take()
    write_params(params, demo, start.path)  # from here on the project is one's own
    keep_artifacts_of(load_params())
    clear(orphans())
    typer.echo(f"The demo is out. The first run of each task starts from {start.path}.")
    if start.lacks_template():
        typer.echo(
            f"Note:  {start.path} has no chat template, by which questions and answers are "
            "learned; add `chat_template: plain` under `defaults` of params.yaml, or another of "
            "stages/text/chat_templates"
        )
    tell_next()


def tell_next() -> None:
    typer.echo('Git:   git add --all && git commit --message "Begin with our own data"')
    typer.echo("Next:  python -m stages new TASK FILE  (data/TASK/README.md has the formats)")


def demo_of(params: Params, kept_tasks: Collection[str]) -> dict[str, list[str]]:
    """The demo's entries by group of params.yaml, but for those that the kept tasks stand on."""
    runs = {name for name, run in params.runs.items() if run.task in kept_tasks}
    while (
        further := {
            name
            for run in runs
            for path in (params.runs[run].base, params.runs[run].parent)
            if (name := path.removeprefix("models/")) in params.runs
        }
        - runs
    ):
        runs |= further
    bases = {params.runs[run].base.removeprefix("models/bases/") for run in runs} & {*params.bases}
    corpora = {corpus for run in runs for corpus in params.shares(run)}
    corpora |= {params.bases[base].corpus for base in bases}
    corpora |= {name for name, corpus in params.corpora.items() if corpus.task in kept_tasks}
    files = {params.corpora[name].file for name in corpora}
    made = {item.file for item in params.synthetic.values()}
    of_demo = {name for name, corpus in params.corpora.items() if corpus.file in made}
    gone = {
        name
        for name, run in params.runs.items()
        if name not in runs and run.corpus in of_demo - corpora
    }
    return {
        "corpora": [name for name in params.corpora if name in of_demo - corpora],
        "synthetic": [name for name, item in params.synthetic.items() if item.file not in files],
        "bases": [
            name
            for name, base in params.bases.items()
            if name not in bases and base.corpus in of_demo - corpora
        ],
        "runs": [name for name in params.runs if name in gone],
        "variants": [name for name, item in params.variants.items() if item.model_of in gone],
    }


def require_clean_tree(verb: str) -> None:
    """Nothing that git keeps is changed and not committed."""
    command = ["git", "status", "--porcelain", "--untracked-files=no"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"{verb}: {done.stderr.strip()}; it wants a git repository to go back to")
    if changed := [line[3:] for line in done.stdout.splitlines()]:
        raise UserError(
            f"{verb}: {', '.join(changed[:3])}{' …' if len(changed) > 3 else ''}: changed and not "
            "committed; commit or stash it first, because git is the way back"
        )


def write_params(params: Params, demo: dict[str, list[str]], base: str) -> None:
    """params.yaml without the demo, with the base and the defaults that suit it, in one piece."""
    entry(params.presets, PRESET, "presets")
    rest = [name for name in params.runs if name not in demo["runs"]]
    with edited_params({group: names for group, names in demo.items() if names}) as document:
        document["base"] = base
        of_rest = {params.runs[run].task for run in rest}
        for task in [task for task in params.compare if task not in of_rest]:
            document["compare"].remove(task)
        suits = document["presets"][PRESET]
        put(document["defaults"], suits)
        for name, options in document["tasks"].items():
            take(options, suits)
            if name not in of_rest:
                options.pop("added_tokens", None)  # the demo's own


def put(options: dict[str, Any], values: dict[str, Any]) -> None:
    """Each value over the one there is, maps key by key, so that comments stay."""
    for key, value in values.items():
        if isinstance(value, dict):
            put(options[key], value)
        else:
            options[key] = value


def take(options: dict[str, Any], values: dict[str, Any]) -> None:
    """The keys out of a task's options: the demo needed others than its defaults."""
    for key, value in values.items():
        if isinstance(value, dict):
            take(options.get(key) or {}, value)
            if options.get(key) == {}:
                del options[key]
        else:
            options.pop(key, None)


def orphans() -> dict[str, list[str]]:
    """{stage of dvc.lock that no entry of params.yaml asks for: the paths that it wrote}."""
    from dvc.repo import Repo

    with Repo() as repo:
        stages = {stage.addressing for stage in repo.index.stages}
        written = {out.def_path for stage in repo.index.stages for out in stage.outs}
    locked = _lock()["stages"] if LOCK.exists() else {}
    return {
        name: [out["path"] for out in item.get("outs", []) if out["path"] not in written]
        for name, item in locked.items()
        if name not in stages
    }


def clear(stages: dict[str, list[str]]) -> bool:
    """Remove what stages wrote that are no more, then their entries; whether there were any.

    The entries last: they tell what is left to be removed.
    """
    for path in (Path(path) for paths in stages.values() for path in paths):
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        if path.parent.is_dir() and not any(path.parent.iterdir()):
            path.parent.rmdir()
    versions = [name.partition("@")[2] for name in stages if name.startswith("prepare@")]
    for readme in Path("data").glob("*/README.md"):
        lines = readme.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if not line.startswith(tuple(f"| {v} |" for v in versions))]
        if kept != lines:
            with own_files.written(readme) as file:
                file.writelines(kept)
    if stages:
        lock = _lock()
        for name in stages:
            del lock["stages"][name]
        with atomic_write(LOCK) as file:
            YAML().dump(lock, file)
    return bool(stages)


def _lock() -> Any:
    return YAML().load(LOCK.read_text(encoding="utf-8"))
