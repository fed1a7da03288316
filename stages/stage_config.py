"""What `configure` wrote for a stage."""

import json
from pathlib import Path
from typing import Any

from stages.errors import UserError, nearest

CONFIG = Path("build/config")
CONDUCT = "conduct"  # no stage: how a run is carried out where that decides no byte


def load(stage: str, key: str) -> dict[str, Any]:
    """All that decides a stage beside its data. Raises UserError that names the nearest there
    is.
    """
    path = CONFIG / stage / f"{key}.json"
    if not path.is_file():
        there = sorted(file.stem for file in path.parent.glob("*.json"))
        raise UserError(
            f"{path}: no such file; `dvc repro configure` writes one for each entry of "
            f"params.yaml{nearest(key, there)}"
        )
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return config
