"""PRM800K -> a corpus of rated solutions for docs/real.md: of each problem at most two, drawn by a
seed, none longer than 1,200 characters. A path has as many as it has rated alternatives, nearly the
same but for their last step, and two cores cannot look at all of them within an hour.

    python -m bench.real.steps phase1_train.jsonl

writes .scratch/real/steps.jsonl.
"""

import json
import random
import sys
from collections import defaultdict
from pathlib import Path

from stages import tasks
from stages.corpus.examples import Example

WRITTEN = Path(".scratch/real/steps.jsonl")
OF_A_PROBLEM, LONGEST = 2, 1200


def main(published: str) -> None:
    solutions = defaultdict(list)
    for example in tasks.corpus("reward").read(Path(published), {}):
        if isinstance(example, Example) and len("".join(example.steps)) <= LONGEST:
            solutions[example.source].append(example)
    rng = random.Random(42)
    drawn = [
        example
        for of_problem in solutions.values()
        for example in rng.sample(of_problem, min(OF_A_PROBLEM, len(of_problem)))
    ]
    lines = (
        json.dumps({"problem": each.source, "steps": each.steps, "labels": each.labels})
        for each in drawn
    )
    WRITTEN.parent.mkdir(parents=True, exist_ok=True)
    WRITTEN.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{WRITTEN}: {len(drawn)} solutions of {len(solutions)} problems")


if __name__ == "__main__":
    main(*sys.argv[1:])
