"""A repository in which two runs have answered the same held-out rows, without any training."""

import csv
from pathlib import Path

import yaml

from stages import compare, tasks
from stages.files import write_lines
from stages.records import Prediction
from tests.test_settings import GOOD

ASKED = "次の文の誤りを直してください。"


def row(number: int, category: str, source: str, target: str) -> dict:
    return {
        "id": f"{number:016x}",
        "category": category,
        "source": source,
        "messages": [
            {"role": "user", "content": f"{ASKED}\n{source}"},
            {"role": "assistant", "content": target},
        ],
    }


ROWS = [
    row(0, "Particle", "水が飲む。", "水を飲む。"),
    row(1, "Particle", "本が読む。", "本を読む。"),
    row(2, "Verb", "泳った。", "泳いだ。"),
    row(3, "[red]", "\x1b[31m猫", "猫[/]です"),
]
# One that was right and is wrong, one wrong in both, one that is right now, and hostile text.
ANSWERS = {
    "gec-001": ["水を飲む。", "本が読む。", "泳った。", "猫[/]です"],
    "gec-002": ["水が飲む。", "本が読む。", "泳いだ。", "\x1b[2J<b>" + "あ" * 100_000],
}


def make(folder: Path, rows: list[dict], answers: dict[str, list[str]]) -> None:
    """params.yaml of tests.test_settings and, of its runs gec-001 and gec-002, what `evaluate` and
    `compare` write."""
    (folder / "params.yaml").write_text(yaml.safe_dump(GOOD), encoding="utf-8")
    write_lines(folder / "data/prepared/gec/test/gec-001.jsonl", rows)
    score, scored = tasks.score("gec"), {}
    for name, texts in answers.items():
        made = [
            Prediction(row["id"], "gec-001", text, 1.0, 3)
            for row, text in zip(rows, texts, strict=True)
        ]
        of_base = Prediction(rows[0]["id"], "gec-001", "", 0, 1, "base")
        write_lines(folder / f"data/predictions/{name}.jsonl", [*made, of_base])
        path = folder / f"data/scored/gec/{name}.jsonl"
        write_lines(
            path,
            [
                {"id": row["id"], "corpus": "gec-001", "category": row["category"]}
                | {"statistics": numbers.tolist()}
                for row, numbers in zip(rows, score.statistics(rows, made), strict=True)
            ],
        )
        scored[name] = compare.read_scored(path)
    chain = folder / "metrics/compare/gec/chain.csv"
    chain.parent.mkdir(parents=True)
    parents = ("", *scored)
    entries = [
        compare.chain_entry(run, parent, scored, score)
        for run, parent in zip(scored, parents, strict=False)
    ]
    with chain.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, compare.CHAIN)
        writer.writeheader()
        writer.writerows(entries)
