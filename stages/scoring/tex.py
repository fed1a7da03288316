"""LaTeX sources -> the pictures that LaTeX itself draws of them, each run confined.

LaTeX is a programming language and what it is given here is untrusted, so that each run has an
empty folder of its own, starts no program (`-no-shell-escape`, and no script that makes fonts),
opens no file above its folder but those of its distribution (`openin_any=p`, `openout_any=p`), and
has limits of processor time, memory and of what it writes.

Many formulas go through one run, a page each, as a run takes 0.1 s to begin. Each formula lies in a
file of its own, which TeX does not read beyond, so that what is left open in one is an error there.
After an error that may have changed how TeX goes on, what follows is drawn again by a new run.
"""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from stages.processes import cores
from stages.progress_lines import ProgressLines
from stages.scoring.likeness import DPI, MAX_PIXELS, Picture, cropped
from stages.scoring.render_worker import Mode

PROGRAMS = ("pdflatex", "pdftoppm", "sh")

INSTALL = (
    "apt-get install texlive-latex-recommended texlive-fonts-recommended lmodern poppler-utils"
)
"""What has the programs on Debian, for messages."""

FORMULAS_A_RUN = 40

CPU_SECONDS, WALL_SECONDS = 3, 30
"""Of a run. Forty formulas take 0.2 s of processor time to draw; the other limit is for a run that
waits, and leaves room for a machine that is busy with other work."""

DOCUMENT_CPU_SECONDS = 20

MEMORY_MB, WRITTEN_MB = 1024, 64

SCALE = 1.1
"""LaTeX's 10 points are drawn as large as Typst's 11, the default size of each."""

HARMLESS = re.compile(r"Undefined control sequence\.|Double (?:super|sub)script\.")
"""Errors after which TeX goes on as if nothing had been there."""

NUMBERED = re.compile(r"\\(begin|end)\{(equation|align|alignat|flalign|gather|multline|eqnarray)\}")
DISPLAY = re.compile(
    r"\s*\\begin\{(?:equation|x?x?alignat|(?:fl)?align|gather|multline|eqnarray)\*?\}"
)

PREAMBLE = r"""\documentclass{article}
\usepackage{amsmath,amssymb,mathrsfs,bm}
\IfFileExists{cancel.sty}{\usepackage{cancel}}{}
\IfFileExists{xcolor.sty}{\usepackage{xcolor}}{}
\pdfhorigin=12pt \pdfvorigin=12pt \tracinglostchars=3 \errorcontextlines=-1
\newbox\drawn \let\shipped=\shipout \makeatletter\let\readfile=\@@input\makeatother
\begin{document}
\let\shipout=\undefined \let\pdfobj=\undefined \let\pdfximage=\undefined
\let\pdffiledump=\undefined \renewcommand\label[1]{}
\def\ship#1{\global\count0=7000000 \global\advance\count0 by #1\relax
  \ifdim\wd\drawn>4000pt\errmessage{Too wide}\fi
  \ifdim\dimexpr\ht\drawn+\dp\drawn>1500pt\errmessage{Too high}\fi
  \pdfpagewidth=\dimexpr\wd\drawn+24pt\relax
  \pdfpageheight=\dimexpr\ht\drawn+\dp\drawn+24pt\relax
  \shipped\box\drawn}
\def\inline#1{\setbox\drawn\hbox{$\displaystyle\readfile #1.tex $}\ship{#1}}
\def\display#1{\setbox\drawn\vbox{\hsize=2800pt\linewidth=\hsize\textwidth=\hsize
  \noindent\readfile #1.tex }\ship{#1}}
\def\paragraphs#1{\setbox\drawn\vbox{\hsize=%spt\linewidth=\hsize\textwidth=\hsize
  \noindent\readfile #1.tex }\ship{#1}}
""".replace("%s", f"{12 / 2.54 * 72.27 / SCALE:.1f}")  # Typst's pages of text are 12 cm wide


def available() -> bool:
    """Whether LaTeX, and what makes pixels of its pages, are there."""
    return all(shutil.which(program) for program in PROGRAMS)


class Typesetter:
    """LaTeX in folders that are deleted at the end; used as a context manager."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="latex-")

    def __enter__(self) -> "Typesetter":
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def pictures(self, formulas: Sequence[str], mode: Mode = "math") -> list[Picture | None]:
        """For each formula, or in the mode "document" text with formulas in it, what LaTeX draws.

        None where it tells of an error, draws nothing, or comes to a limit.
        """

        def drawn_in_parts(part: list[str]) -> list[Picture | None]:
            return self._drawn(part, mode)

        known: dict[str, Picture | None] = {}
        waiting = list(dict.fromkeys(formulas))
        parts = [waiting[at : at + FORMULAS_A_RUN] for at in range(0, len(waiting), FORMULAS_A_RUN)]
        with (
            ProgressLines("typesetting", len(waiting), "formulas") as lines,
            ThreadPoolExecutor(cores()) as threads,
        ):
            for part, drawn in zip(parts, threads.map(drawn_in_parts, parts), strict=True):
                known.update(zip(part, drawn, strict=True))
                lines.advance(len(part))
        return [known[formula] for formula in formulas]

    def pages(self, document: Path, pdf: Path | None = None) -> list[Picture] | None:
        """The pages of a document, each cropped to its ink; None where LaTeX tells of an error.

        document: its main file; the files beside it can be read, and no others.   pdf: where a copy
        of what LaTeX made goes.
        """
        with tempfile.TemporaryDirectory(dir=self._folder.name) as name:
            folder = Path(name, "run")
            shutil.copytree(document.parent, folder)
            for _ in range(3):  # references and the table of contents settle
                said = _run(folder, ["pdflatex", *OPTIONS, document.name], DOCUMENT_CPU_SECONDS)
            if said is None or re.search("^! ", said, re.MULTILINE):
                return None
            made = folder / document.with_suffix(".pdf").name
            if pdf and made.is_file():
                shutil.copyfile(made, pdf)
            return _pixels(folder, made.name)

    def _drawn(self, formulas: list[str], mode: Mode) -> list[Picture | None]:
        drawn: list[Picture | None] = []
        while len(drawn) < len(formulas):
            drawn += self._begun(formulas[len(drawn) :], mode)
        return drawn

    def _begun(self, formulas: list[str], mode: Mode) -> list[Picture | None]:
        """The pictures of the first formulas: at least of one."""
        with tempfile.TemporaryDirectory(dir=self._folder.name) as name:
            folder = Path(name)
            main = [PREAMBLE]
            for place, formula in enumerate(formulas):
                how, text = _prepared(formula, mode)
                (folder / f"{place}.tex").write_bytes(text.encode("utf-8", "replace"))
                main.append(f"\\{how}{{{place}}}\n")
            (folder / "main.tex").write_text("".join(main) + "\\end{document}\n", encoding="utf-8")
            said = _run(folder, ["pdflatex", *OPTIONS, "main.tex"], CPU_SECONDS)
            pages, errors = _shipped(folder, len(formulas))
            # What is drawn as if no other formula had been there: all before the first error that
            # is not harmless, and before what was never drawn.
            sound = 0
            while sound < len(pages) and all(map(HARMLESS.match, errors[sound])):
                sound += 1
            drawn = _pixels(folder, "main.pdf", sound) if said is not None else None
            if said is not None and drawn is None and sound > 1:  # too many pages for their limit
                return self._begun(formulas[: sound // 2], mode)
            if drawn is None or len(drawn) != sound:  # the run was stopped, and its pages are lost
                return [*self._drawn(formulas[:sound], mode), None]
            found = [
                picture if picture.size and not wrong else None
                for picture, wrong in zip(drawn, errors, strict=False)
            ]
            return [*found, None] if sound < len(formulas) else found


OPTIONS = ("-interaction=nonstopmode", "-no-shell-escape")


def _prepared(formula: str, mode: Mode) -> tuple[str, str]:
    """How a formula is set, and its text: without numbers, which no converter writes."""
    text = NUMBERED.sub(r"\\\1{\2*}", formula)
    if DISPLAY.match(text):
        return "display", text
    if mode == "document":
        return "paragraphs", text
    return "inline", text


def _shipped(folder: Path, formulas: int) -> tuple[list[int], list[list[str]]]:
    """(formulas that were drawn, one after another from the first; the errors in each).

    TeX writes `[number]` where it ships a page, counted from 7,000,000, which no formula has in
    brackets, and `! ` before an error.
    """
    said = (folder / "said").read_bytes()[: 2**22].decode("utf-8", "replace")
    pages: list[int] = []
    errors: list[list[str]] = [[] for _ in range(formulas + 1)]
    for found in re.finditer(r"^! (.*)|\[7(\d{6})[\]{<]", said, re.MULTILINE):
        if found[1] is not None:
            errors[min(len(pages), formulas)].append(found[1])
        elif int(found[2]) == len(pages):
            pages.append(len(pages))
    return pages, errors


def _pixels(folder: Path, pdf: str, pages: int | None = None) -> list[Picture] | None:
    """The first so many pages of a PDF file, grey."""
    if pages == 0:
        return []
    last = [] if pages is None else ["-l", str(pages)]
    command = ["pdftoppm", "-gray", "-r", f"{DPI * SCALE:g}", *last, pdf, "page"]
    if not (folder / pdf).is_file() or _run(folder, command, DOCUMENT_CPU_SECONDS) is None:
        return None
    named = sorted(folder.glob("page-*.pgm"), key=lambda path: int(path.stem.split("-")[1]))
    return [_read(path) for path in named]


def _read(path: Path) -> Picture:
    """A grey picture in the format PGM: `P5`, its width and height, 255, and its bytes."""
    head, size, most, pixels = path.read_bytes().split(b"\n", 3)
    width, height = (int(number) for number in size.split())
    if head != b"P5" or most != b"255" or width * height > MAX_PIXELS:
        return np.zeros((0, 0), np.uint8)
    return cropped(255 - np.frombuffer(pixels, np.uint8).reshape(height, width))


def _run(folder: Path, command: list[str], cpu_seconds: int) -> str | None:
    """What a program says, run within its limits; None where it came to one of them."""
    limits = (
        f"ulimit -v {MEMORY_MB * 1024} 2>/dev/null; ulimit -f {WRITTEN_MB * 2048}; ulimit -c 0; "
        f'ulimit -t {cpu_seconds}; exec "$@"'
    )
    # The folder is all that the run may know of; a TeX that must make a font fails instead.
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(folder),
        "TEXMFHOME": str(folder / "none"),
        "TEXMFVAR": str(folder / "none"),
        "TEXMFCONFIG": str(folder / "none"),
        "openin_any": "p",
        "openout_any": "p",
        "shell_escape": "f",
        "max_print_line": "100000",
        "SOURCE_DATE_EPOCH": "0",
        **dict.fromkeys(("MKTEXPK", "MKTEXTFM", "MKTEXMF", "MKTEXTEX"), "0"),
    }
    with (folder / "said").open("wb") as said:
        process = subprocess.Popen(
            ["sh", "-c", limits, "sh", *command],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = process.wait(WALL_SECONDS)
        except subprocess.TimeoutExpired:
            code = -1
        finally:
            process.kill()
            process.wait()
    if code < 0 or code > 128:
        return None
    return (folder / "said").read_bytes()[: 2**22].decode("utf-8", "replace")
