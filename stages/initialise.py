"""initialise: a corpus's training split and an architecture -> a tokenizer and an untrained base in
models/bases/NAME.
"""

from pathlib import Path

from stages import command_line, stage_config
from stages.backends.shared import model_folders, process
from stages.entries import Base
from stages.records import RowFile
from stages.text import tokenizer


def main(name: str) -> None:
    process.set_up("portable")
    base = Base.model_validate(stage_config.load("initialise", name)["base"])
    train = RowFile(Path("data/prepared/lm/train", f"{base.corpus}.jsonl"))
    texts = (
        message["content"]
        for row in train
        for message in row.get("messages", [{"content": row.get("text", "")}])
    )
    trained = tokenizer.train(texts, base.vocab_size, base.split)
    model_folders.write_base(Path("models/bases", name), trained, base)


if __name__ == "__main__":
    command_line.run(main, __doc__)
