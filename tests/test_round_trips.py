"""What is learned is what the corpus says, whatever it holds, in each task's forms."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages import tasks
from stages.corpus import clean
from stages.corpus.candidates import prepared as prepared_row
from stages.entries import Corpus
from stages.text import chat, tokenizer
from stages.text.chat import IGNORE
from stages.text.spoken import Speech
from tests.test_chat_templates import FOLDER, with_template
from tests.test_traps import MISTRAL

PIECES = (
    "<|im_end|>", "<|im_start|>", "<|eot_id|>", "</s>", "[INST]", tokenizer.END, "{{ x }}", "a</think>",
    "\u200b", "\ufeff", "\u200d", "\u202e", "é", "e\u0301", "が", "か\u3099", "ﬁ", "Å", "שלום", "مرحبا",
    "👨\u200d👩\u200d👧", "🇯🇵", "猫", "a", "A", "7", '"', "\\", " ", "\n", "\t", "\u3000",
)  # fmt: skip
SAID = st.lists(st.sampled_from(PIECES), max_size=8).map("".join).filter(str.strip)
FORMS = {
    "lm": [lambda a, b: {"text": f"{a}.{b}"}, lambda a, b: {"question": a, "answer": b}],
    "gec": [lambda a, b: {"source": a, "target": b}],
    "typst": [lambda a, b: {"latex": a, "typst": b}, lambda a, b: {"input": a, "output": b}],
    "polish": [
        lambda a, b: {"instruction": a, "output": b},
        lambda a, b: {"prompt": a, "completion": b},
        lambda a, b: {"messages": [{"role": "user", "content": a}, {"role": "assistant", "content": b}]},
        lambda a, b: {"conversations": [{"from": "human", "value": a}, {"from": "gpt", "value": b}]},
    ],
    "reward": [lambda a, b: {"problem": a, "steps": [b, a], "labels": [1, 0.5]}],
}  # fmt: skip
TOKENIZERS = {
    "ours": tokenizer.train(["猫が本を読みます。"] * 20, 300, "gpt2"),
    "qwen2_5": with_template((FOLDER / "qwen2_5.jinja").read_text(encoding="utf-8")),
    "llama3": with_template((FOLDER / "llama3.jinja").read_text(encoding="utf-8")),
    "mistral": with_template(MISTRAL),
}


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize(("task", "form"), [(task, form) for task in FORMS for form in FORMS[task]])
@settings(max_examples=25, deadline=None)
@given(asked=SAID, answer=SAID)
def test_what_is_learned_is_what_the_corpus_says(task, form, name, asked, answer):
    fast, reader, record = TOKENIZERS[name], tasks.corpus(task), form(asked, answer)
    path = Path("unread.jsonl")
    read = reader._examples(1, json.loads(json.dumps(record)))
    (example,) = clean.readable(read, clean.Report(path))
    row = prepared_row(reader.show, Corpus(task=task, file=str(path)), example, 0)
    (encoded,) = chat.encode(fast, row, 5000)
    if task == "reward":
        begins = [encoded.given, *(end + 1 for end in encoded.step_ends)]
        steps = [fast.decode(encoded.ids[a:b]) for a, b in pairwise(begins)]
        assert steps == [answer.strip() + "\n", asked.strip() + "\n"]
        assert encoded.step_labels == (1.0, 0.5)
        return
    labels = [label for label in encoded.labels if label != IGNORE]
    if task == "lm":
        said = f"{asked}.{answer}" if "text" in record else f"{asked.strip()}\n{answer.strip()}"
        assert fast.decode(labels[:-1]) == said.strip()
        assert labels[-1] == fast.eos_token_id
        return
    assert Speech(fast).text(labels).strip() == answer.strip()
    assert fast.decode(labels[:-1]).strip() == answer.strip()
    assert labels[-1] == chat.end_of_turn(fast)
    assert asked.strip() in fast.decode(encoded.ids[: encoded.given])
