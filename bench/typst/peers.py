"""What LaTeX is converted to Typst with: the converters that there are, and runs of one's own."""

import os
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from stages.tasks.typst.references import RENAMED
from stages.worker_process import Stopped, Worker

SECONDS = 10.0
"""Of a formula; a converter that takes longer is started again for the next."""

DOCUMENT_SECONDS = 300.0
NPM = {"tex2typst of npm": "tex2typst", "mitex": "mitex-wasm"}
PYPI = {"pandoc": "pypandoc", "tex2typst": "tex2typst", "tylax": "tylax"}
INPUT = "input as it is"
RENEWED = "pandoc, names renewed"
"""Pandoc 3.9 writes names of symbols that Typst 0.15 has changed, such as `sect`: what it would be
worth without."""

OWN = "rules"
"""stages/latex/formula_rules.py."""

PROGRAMS = {RENEWED: "pandoc"}
CONVERTERS = (INPUT, "pandoc", RENEWED, "tex2typst", "tylax", *NPM, OWN)
OF_DOCUMENTS = (INPUT, "pandoc", RENEWED, "tylax")
"""The others convert formulas alone."""

MITEX_NAMES = " ".join(
    f"#let {name} = {value};"
    for name, value in {
        "mitexsqrt": "(..it) => if it.pos().len() > 1 { math.root(it.at(0), it.at(1)) } else { math.sqrt(it.at(0)) }",
        "mitexmathbf": "it => math.bold(math.upright(it))",
        "mitexbold": "(..it) => math.bold(math.upright(it.pos().sum(default: [])))",
        "mitexupright": "(..it) => math.upright(it.pos().sum(default: []))",
        "mitexitalic": "(..it) => math.italic(it.pos().sum(default: []))",
        "mitexsans": "(..it) => math.sans(it.pos().sum(default: []))",
        "mitexfrak": "(..it) => math.frak(it.pos().sum(default: []))",
        "mitexmono": "(..it) => math.mono(it.pos().sum(default: []))",
        "mitexcal": "(..it) => math.cal(it.pos().sum(default: []))",
        "mitexdisplay": "(..it) => math.display(it.pos().sum(default: []))",
        "mitexinline": "(..it) => math.inline(it.pos().sum(default: []))",
        "mitexscript": "(..it) => math.script(it.pos().sum(default: []))",
        "mitexsscript": "(..it) => math.sscript(it.pos().sum(default: []))",
        "mitexlabel": "(..it) => none",
        "mitexoverbrace": "it => math.limits(math.overbrace(it))",
        "mitexunderbrace": "it => math.limits(math.underbrace(it))",
        "textmath": "it => it",
        "negthinspace": "h(-3em / 18)",
        "operatorname": "it => math.op(math.upright(it))",
        "hspace": "(..it) => none",
        "vspace": "(..it) => none",
        "diff": "sym.partial",
        "sect": "sym.inter",
        "angle": "(l: sym.chevron.l, r: sym.chevron.r)",
        "operatornamewithlimits": "it => math.op(limits: true, math.upright(it))",
        "dfrac": "(a, b) => math.display(math.frac(a, b))",
        "tfrac": "(a, b) => math.inline(math.frac(a, b))",
        "cfrac": "(a, b) => math.display(math.frac(a, b))",
        "stackrel": "(a, b) => math.attach(math.limits(b), t: a)",
        "overset": "(a, b) => math.attach(math.limits(b), t: a)",
        "underset": "(a, b) => math.attach(math.limits(b), b: a)",
        "boxed": "it => box(stroke: 0.5pt, inset: 6pt, it)",
        "phantom": "hide",
        "matrix": "math.mat.with(delim: none)",
        "pmatrix": 'math.mat.with(delim: "(")',
        "bmatrix": 'math.mat.with(delim: "[")',
        "vmatrix": 'math.mat.with(delim: "|")',
        "Bmatrix": 'math.mat.with(delim: "{")',
        "mitexarray": "(arg0: none, ..it) => math.mat(delim: none, ..it)",
        "aligned": "it => math.display(it)",
        "alignedat": "(arg0: none, it) => math.display(it)",
        **{
            name: f"it => math.lr(size: {size}em, it)"
            for size, names in ((1.2, "big"), (1.8, "Big"), (2.4, "bigg"), (3, "Bigg"))
            for name in (names, names + "l", names + "r", names + "m")
        },
    }.items()
)  # fmt: skip
"""Definitions of the functions that MiTeX's output calls, as its documentation describes them: its
own lie in a Typst package, which neither npm nor PyPI has. With names that Typst has changed since
its version of npm was made."""


@dataclass(frozen=True)
class Answer:
    text: str | None
    """None where the converter gives none."""
    seconds: float
    mode: str = ""
    """How it is compiled; "" as its row says."""


class Converter:
    """A converter's process, as a context manager."""

    def __init__(self, name: str, node_folder: Path, document: bool = False) -> None:
        self._name, self._document = name, document
        program = PROGRAMS.get(name, name)
        self._seconds = DOCUMENT_SECONDS if document else SECONDS
        command = [sys.executable, str(Path(__file__).with_name("peer_worker.py")), program]
        if name in NPM:
            script = node_folder.absolute() / "peer_worker.mjs"
            shutil.copyfile(Path(__file__).with_name("peer_worker.mjs"), script)
            command = ["node", str(script), name]
        if document:
            command.append("document")
        environment = {"PYTHONPATH": os.pathsep.join(sys.path)}
        self._worker = Worker(command, node_folder, environment)

    def __enter__(self) -> "Converter":
        return self

    def __exit__(self, *_: object) -> None:
        self._worker.end()

    def answers(self, sources: list[str]) -> Iterator[Answer]:
        for source in sources:
            if self._name == INPUT:
                yield Answer(source, 0.0)
                continue
            (answer,) = self._worker.answers([source], self._seconds)
            if answer is Stopped.there:
                yield Answer(None, self._seconds)
                continue
            text, seconds = answer
            if text is not None and not self._document:
                text = self._bare(text)
            if text is not None and self._name == RENEWED:
                for old, new in RENAMED:
                    text = old.sub(new, text)
            yield Answer(text, seconds)

    def _bare(self, text: str) -> str:
        """The inside of a formula, as it is compiled."""
        text = text.strip()
        inside = re.fullmatch(r"\$([^$]*)\$", text)
        text = inside[1].strip() if inside else text
        return f"{MITEX_NAMES} {text}" if self._name == "mitex" else text


def absent(name: str, node_folder: Path) -> str:
    """Why a converter cannot be asked, in a sentence; "" where it can."""
    module = PYPI.get(PROGRAMS.get(name, name), "")
    if module and not find_spec(module):
        package = {"pypandoc": "pypandoc_binary"}.get(module, module)
        return f"{name} is left out: `pip install {package}` brings it"
    if name in NPM:
        if not shutil.which("node"):
            return f"{name} is left out: it needs Node.js"
        if not (node_folder / "node_modules" / NPM[name]).is_dir():
            return f"{name} is left out: `npm install --prefix {node_folder} {NPM[name]}` brings it"
    return ""


def document(name: str, path: Path) -> Answer:
    """A whole document, by a converter that converts such."""
    with Converter(name, path.parent, document=True) as converter:
        return next(iter(converter.answers([path.read_text(encoding="utf-8")])))
