"""The runs that dvc.yaml names for other repositories: of each task one, its newest."""

from io import StringIO
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from stages.commands import own_files
from stages.layers import Params

GRAPH = Path("dvc.yaml")


def name_artifact(task: str, run: str) -> None:
    """Let the task's artifact be this run, where there is a graph; all else of it stays."""
    if not GRAPH.is_file():
        return
    document, yaml = _read()
    artifacts = document.setdefault("artifacts", CommentedMap())
    artifacts.fa.set_block_style()  # `{}` before its first entry
    if task not in artifacts:
        artifacts[task] = CommentedMap({"path": "", "type": "model"})
        artifacts[task].fa.set_flow_style()
    artifacts[task]["path"] = f"models/{run}"
    _write(document, yaml)


def keep_artifacts_of(params: Params) -> None:
    """Let those whose run is none of params.yaml's any more be the newest that their task has left,
    and take out those of tasks that have none.
    """
    document, yaml = _read()
    artifacts = document.get("artifacts", {})
    gone = [
        task
        for task, item in artifacts.items()
        if task in params.tasks and Path(item["path"]).name not in params.runs
    ]
    for task in gone:
        if left := [name for name, run in params.runs.items() if run.task == task]:
            artifacts[task]["path"] = f"models/{left[-1]}"
        else:
            del artifacts[task]
    if gone:
        _write(document, yaml)


def _read() -> tuple[CommentedMap, YAML]:
    yaml = YAML()
    yaml.width, yaml.preserve_quotes = 200, True
    yaml.indent(mapping=2, sequence=4, offset=2)  # as dvc.yaml is written
    return yaml.load(GRAPH.read_text(encoding="utf-8")), yaml


def _write(document: CommentedMap, yaml: YAML) -> None:
    written = StringIO()
    yaml.dump(document, written)
    with own_files.written(GRAPH) as file:
        file.write(written.getvalue())
