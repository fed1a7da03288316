"""Typst document -> its pages as PNG and as PDF, beside it. Run as a script in the document's
folder, which is all that it reads: `document_worker.py paper.typ`.
"""

import sys
from pathlib import Path

import typst

PIXELS_PER_INCH = 150


def main(name: str) -> None:
    here = Path.cwd()
    compiler = typst.Compiler(
        root=here, ignore_system_fonts=True, package_path=here, package_cache_path=here
    )
    Path("paper.pdf").write_bytes(compiler.compile(here / name, format="pdf", timestamp=0))
    pages = compiler.compile(here / name, format="png", ppi=PIXELS_PER_INCH, timestamp=0)
    for number, page in enumerate(pages if isinstance(pages, list) else [pages]):
        Path(f"page-{number:04}.png").write_bytes(page)


if __name__ == "__main__":
    main(sys.argv[1])
