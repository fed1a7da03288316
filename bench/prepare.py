"""W4. `prepare`: a corpus of sentences is read, cleaned, freed of duplicates and near-duplicates,
and split, at three sizes.

Sentences of 10 to 30 words out of 20,000; one in ten repeats an earlier one, one in twenty is an
earlier one with one word replaced by another, of which about half lie above the similarity asked
for. The other side is `datasets` with the usual functions and datasketch's MinHash, 128 hashes of
character 5-grams at a similarity of 0.8, as ours. What is taken for a near-duplicate is an estimate
on both sides; theirs drops what shares a band, ours compares the hashes then, and keeps more.
The million is also prepared by a process for each core, beside one process."""

import json
import random
from functools import partial
from pathlib import Path

import yaml

from bench.turns import Work, Workload
from stages.layers import Params

SIZES = (10_000, 100_000, 1_000_000)
SIMILARITY, HASHES, GRAM = 0.8, 128, 5


def make(folder: Path) -> None:
    for size in SIZES:
        rng = random.Random(size)
        words = [
            "".join(rng.choice("abcdefghijklmnoprstuvwz") for _ in range(rng.randrange(3, 10)))
            for _ in range(20_000)
        ]
        recent: list[list[str]] = []
        with (folder / f"{size}.jsonl").open("w", encoding="utf-8") as file:
            for _ in range(size):
                kind = rng.random()
                if recent and kind < 0.15:
                    sentence = list(rng.choice(recent))
                    if kind >= 0.1:
                        sentence[rng.randrange(len(sentence))] = rng.choice(words)
                else:
                    sentence = rng.choices(words, k=rng.randrange(10, 31))
                    recent = [*recent[-999:], sentence]
                file.write(json.dumps({"text": " ".join(sentence)}) + "\n")


def ours(folder: Path, size: int) -> Work:
    """`python -m stages.prepare` in a folder of its own."""
    import os

    from stages import configure, prepare

    corpus = {
        "task": "lm",
        "file": f"{size}.jsonl",
        "near_duplicates": SIMILARITY,
        "max_drop_fraction": 1.0,
    }
    params = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    params |= {
        "corpora": {"lm-001": corpus},
        "synthetic": {},
        "sources": {},
        "bases": {},
        "compare": [],
        "runs": {},
        "variants": {},
    }
    (folder / "params.yaml").write_text(
        yaml.safe_dump({key: value for key, value in params.items() if key in Params.model_fields})
    )
    os.chdir(folder)
    configure.main()
    work = Work(done=size)
    with work.timed():
        prepare.main("lm-001")
    found = json.loads(Path("metrics/prepare/lm-001.json").read_text(encoding="utf-8"))
    work.same = {
        "rows kept": sum(found["rows"].values()),
        "duplicates": found["dropped"]["duplicate"],
        "near-duplicates": found["dropped"]["near-duplicate"],
    }
    return work


def in_one_process(folder: Path, size: int) -> Work:
    import os

    os.environ["OMP_NUM_THREADS"] = "1"
    return ours(folder, size)


def theirs(folder: Path, size: int) -> Work:
    """datasets and datasketch."""
    import unicodedata

    import datasets
    from datasketch import MinHash, MinHashLSH

    datasets.disable_progress_bars()
    work, exact, near = Work(done=size), 0, 0

    def cleaned(row: dict[str, str]) -> dict[str, str]:
        return {"text": unicodedata.normalize("NFC", row["text"].strip())}

    def sound(row: dict[str, str]) -> bool:
        return bool(row["text"]) and "\ufffd" not in row["text"]

    with work.timed():
        options = {"cache_dir": str(folder / "cache" / str(size))}
        rows = datasets.load_dataset(
            "json", data_files=str(folder / f"{size}.jsonl"), split="train", **options
        )
        rows = rows.map(cleaned, load_from_cache_file=False).filter(
            sound, load_from_cache_file=False
        )
        seen: set[str] = set()
        index = MinHashLSH(threshold=SIMILARITY, num_perm=HASHES)
        kept = []
        for number, row in enumerate(rows):
            text = row["text"]
            if text in seen:
                exact += 1
                continue
            seen.add(text)
            marks = MinHash(num_perm=HASHES)
            marks.update_batch(
                [text[at : at + GRAM].encode() for at in range(max(1, len(text) - GRAM + 1))]
            )
            if index.query(marks):
                near += 1
                continue
            index.insert(number, marks)
            kept.append(number)
        parts = rows.select(kept).train_test_split(test_size=0.2, seed=42)
        halves = parts["test"].train_test_split(test_size=0.5, seed=42)
        for name, part in (
            ("train", parts["train"]),
            ("valid", halves["train"]),
            ("test", halves["test"]),
        ):
            part.to_json(str(folder / f"{name}.{size}.jsonl"))
    work.same = {"rows kept": len(kept), "duplicates": exact, "near-duplicates": near}
    return work


WORKLOADS = {
    f"prepare-{size // 1000}k": Workload(
        f"`prepare` of a corpus of {size:,} lines",
        "lines",
        make,
        {"ours": partial(ours, size=size), "datasets and datasketch": partial(theirs, size=size)},
        {"datasets and datasketch": 3.0},
        tolerance={"rows kept": 0.02, "near-duplicates": 0.5},
    )
    for size in SIZES
} | {
    "prepare-processes": Workload(
        f"`prepare` of a corpus of {SIZES[-1]:,} lines by a process for each core",
        "lines",
        make,
        {
            "a process for each core": partial(ours, size=SIZES[-1]),
            "one process": partial(in_one_process, size=SIZES[-1]),
        },
        {"one process": 1.7},
    )
}
