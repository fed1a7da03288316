"""initialise: a corpus's training split and an architecture -> a tokenizer and an untrained base in models/bases/NAME."""

from pathlib import Path

from stages.backends import adapter
from stages.records import configured, rows, stage
from stages.settings import Base
from stages.text import tokenizer


def main(name: str) -> None:
    base = Base.model_validate(configured("initialise", name)["base"])
    train = rows(Path("data/prepared/lm/train", f"{base.corpus}.jsonl"))
    texts = (message["content"] for row in train for message in row.get("messages", [{"content": row.get("text", "")}]))
    trained = tokenizer.train(texts, base.vocab_size, base.split)
    adapter.write_base(Path("models/bases", name), trained, base)


if __name__ == "__main__":
    stage(main, __doc__)
