"""Trainings by pytorch.train that tests/test_processes.py compares: alone in its own process, or one
after the other in each of several.

    python -m tests.spread CASES RESULTS        in each worker; the first one writes what came out
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch

from stages.backends.pytorch import backend as pytorch
from stages.backends.shared.place import own_place
from stages.entries import Run
from stages.errors import UserError
from stages.settings import Settings


def train(case: dict[str, Any]) -> dict[str, Any]:
    """What was logged and the weights, or the sentence of an error."""
    rows = case["rows"][own_place().rank % len(case["rows"])]
    cut = len(rows) * 2 // 3
    spec = Run(task="gec", corpus="gec-001", base=case["base"], parent=case["base"])
    settings = Settings.model_validate(case["settings"])
    try:
        trained = pytorch.train(
            case["name"], spec, settings, rows[:cut], rows[cut:], Path(case["checkpoints"])
        )
    except UserError as error:
        return {"error": str(error)}
    learned = {
        name: weights.detach().clone()
        for name, weights in trained.model.named_parameters()
        if weights.requires_grad
    }
    return {"history": trained.history, "weights": learned, "md5": trained.first_steps_md5}


if __name__ == "__main__":
    results = [train(case) for case in json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))]
    if own_place().leads:
        torch.save(results, sys.argv[2])
