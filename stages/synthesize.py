"""synthesize: a task's grammar -> one demo corpus version. Delete its entry in params.yaml when you
bring your own.
"""

import random
from pathlib import Path

from stages import command_line, stage_config, tasks
from stages.entries import Synthetic
from stages.files import atomic_write


def main(name: str) -> None:
    spec = Synthetic.model_validate(stage_config.load("synthesize", name)["synthetic"])
    grammar = tasks.synthetic(spec.task)
    with atomic_write(Path(spec.file)) as file:
        file.writelines(
            f"{line}\n" for line in grammar.lines(random.Random(spec.seed), spec.rows, spec.level)
        )


if __name__ == "__main__":
    command_line.run(main, __doc__)
