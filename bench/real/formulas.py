"""Published formulas in LaTeX -> corpora of pairs, for docs/real.md: what tex2typst makes of them,
where that compiles and the LaTeX has at most 200 characters.

    npm install --prefix .scratch/real tex2typst@0.6.2
    python -m bench.real.formulas im2latex_val.norm.txt 600 600 100

writes 001.jsonl, 002.jsonl, … of so many pairs each into .scratch/real, in the order of the file.
"""

import json
import subprocess
import sys
from itertools import islice
from pathlib import Path

from stages.files import read_lines
from stages.scoring.render import Renderer

FOLDER = Path(".scratch/real")
LONGEST = 200


def main(formulas: str, *sizes: str) -> None:
    latex = [line.strip() for _, line in read_lines(Path(formulas))]
    script = Path(__file__).with_suffix(".mjs").read_text(encoding="utf-8")
    (FOLDER / "formulas.mjs").write_text(script, encoding="utf-8")  # beside its package
    converted = subprocess.run(
        ["node", FOLDER / "formulas.mjs"],
        input="\n".join(line for line in dict.fromkeys(latex) if 0 < len(line) <= LONGEST),
        capture_output=True,
        text=True,
        check=True,
    )
    pairs = [json.loads(line) for line in converted.stdout.splitlines()]
    with Renderer() as renderer:
        pictures = renderer.render([pair["typst"] for pair in pairs], "math")
    good = iter([pair for pair, picture in zip(pairs, pictures, strict=True) if picture])
    for number, size in enumerate(sizes, start=1):
        lines = [json.dumps(pair, ensure_ascii=False) + "\n" for pair in islice(good, int(size))]
        path = FOLDER / f"{number:03}.jsonl"
        path.write_text("".join(lines), encoding="utf-8")
        print(f"{path}: {len(lines)} pairs")
    print(f"{sum(1 for _ in good)} further pairs of {len(latex)} formulas")


if __name__ == "__main__":
    main(*sys.argv[1:])
