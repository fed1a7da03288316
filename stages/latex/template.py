"""What stands before a converted document: pages, letters and headings as LaTeX's classes have
them, and the helpers that its body calls.

Sizes are those of size10.clo, size11.clo and size12.clo; LaTeX's distance between lines is from
baseline to baseline, Typst's `leading` from there to the height of a capital letter, which is
0.683 em in New Computer Modern.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from stages.latex.definitions import Theorem
from stages.latex.pieces import string

LANGUAGES = {
    "polish": "pl", "japanese": "ja", "german": "de", "ngerman": "de", "french": "fr",
    "spanish": "es", "italian": "it", "russian": "ru", "czech": "cs", "dutch": "nl",
    "portuguese": "pt", "brazil": "pt", "swedish": "sv", "danish": "da", "finnish": "fi",
    "hungarian": "hu", "ukrainian": "uk", "greek": "el", "turkish": "tr", "norsk": "no",
    "chinese": "zh", "korean": "ko", "romanian": "ro", "croatian": "hr",
}  # fmt: skip
CLASS = re.compile(
    r"\\document(?:class|style)\s*(?:\[(?P<options>[^\]]*)\])?\s*\{(?P<name>[^{}]*)\}"
)
PACKAGE = re.compile(r"\\usepackage\s*(?:\[(?P<options>[^\]]*)\])?\s*\{(?P<names>[^{}]*)\}")
PAPERS = {
    "a4paper": "a4", "a4": "a4", "a5paper": "a5", "b5paper": "iso-b5", "letterpaper": "us-letter",
    "legalpaper": "us-legal", "executivepaper": "us-executive",
}  # fmt: skip
WIDTHS_PT = {
    "a4": 597.5,
    "a5": 419.5,
    "iso-b5": 498.9,
    "us-letter": 614.3,
    "us-legal": 614.3,
    "us-executive": 522,
}
LINES_PT = {10: 12.0, 11: 13.6, 12: 14.5}  # from one baseline to the next
TEXT_WIDTH_PT = {10: 345.0, 11: 360.0, 12: 390.0}
SECTION_EM = {10: (1.44, 1.2, 1.0), 11: (1.315, 1.095, 1.0), 12: (1.44, 1.2, 1.0)}
CAPITAL_EM = 0.683
LENGTH = re.compile(r"[\d.]+\s*(?:pt|cm|mm|in|em)")


@dataclass(frozen=True)
class Layout:
    """What a document's preamble says of its look."""

    name: str
    options: tuple[str, ...]
    language: str
    margins: str
    within: str
    double: bool

    @property
    def slides(self) -> bool:
        return self.name == "beamer"

    @property
    def chapters(self) -> bool:
        return self.name in ("book", "report", "memoir", "scrbook", "scrreprt", "jsbook", "thesis")


def layout(preamble: str) -> Layout:
    found = CLASS.search(preamble)
    options = _listed(found["options"] if found else "")
    name = found["name"].strip() if found else ""
    language, margins, double = "", "", "twocolumn" in options or name.startswith("IEEEtran")
    for package in PACKAGE.finditer(preamble):
        names, given = _listed(package["names"]), _listed(package["options"])
        if "babel" in names or "polyglossia" in names:
            language = next(
                (LANGUAGES[each] for each in reversed(given) if each in LANGUAGES), language
            )
        if {"CJK", "luatexja", "xeCJK"} & set(names):
            language = language or "ja"
        if "polski" in names:
            language = "pl"
        if "geometry" in names:
            margins = _margins(given) or margins
            options += tuple(given)
        if "fullpage" in names:
            margins = "1in"
    if main := re.search(r"\\setmainlanguage(?:\[[^\]]*\])?\{(\w+)\}", preamble):
        language = LANGUAGES.get(main[1], language)
    if geometry := re.search(r"\\geometry\s*\{([^{}]*)\}", preamble):
        margins = _margins(_listed(geometry[1])) or margins
        options += tuple(_listed(geometry[1]))
    if re.match(r"(?:u|p|l)?t?j(?:s|lreq)?(?:article|book|report)?$", name):
        language = "ja"
    within = "section" if re.search(r"\\numberwithin\s*\{equation\}", preamble) else ""
    return Layout(name, options, language or "en", margins, within, double)


def _listed(text: str | None) -> tuple[str, ...]:
    return tuple(each.strip() for each in re.split(r",(?![^{]*\})", text or "") if each.strip())


def _margins(options: tuple[str, ...]) -> str:
    """Typst for the margins that the package geometry is given; "" for none."""
    sides = {
        "left": "left", "right": "right", "top": "top", "bottom": "bottom", "hmargin": "x",
        "vmargin": "y", "inner": "left", "outer": "right", "lmargin": "left", "rmargin": "right",
        "tmargin": "top", "bmargin": "bottom", "margin": "rest",
    }  # fmt: skip
    found = {}
    for option in options:
        key, _, value = option.partition("=")
        if key.strip() in sides and LENGTH.fullmatch(value.strip()):
            found[sides[key.strip()]] = value.replace(" ", "").strip()
    return f"({', '.join(f'{side}: {value}' for side, value in found.items())})" if found else ""


def preamble(look: Layout, body: str, theorems: Iterable[Theorem]) -> str:
    """The Typst before the body: settings, then those of the helpers that the body calls."""
    size = next((int(each[:-2]) for each in look.options if each in ("10pt", "11pt", "12pt")), 10)
    paper = next((PAPERS[each] for each in look.options if each in PAPERS), "us-letter")
    if look.slides:
        return _slides() + _helpers(body, look, theorems)
    side = (WIDTHS_PT[paper] - TEXT_WIDTH_PT[size]) / 2
    margins = look.margins or f"(x: {side:.0f}pt, y: {'1.6in' if paper != 'a5' else '2cm'})"
    columns = ""
    if look.double:
        margins, columns = look.margins or "(x: 0.75in, y: 1in)", ", columns: 2"
    leading = LINES_PT[size] / size - CAPITAL_EM
    first, second, third = SECTION_EM[size]
    indent = "0pt" if look.name == "letter" else "1.5em"
    spacing = f"{leading + 0.6:.2f}em" if look.name == "letter" else f"{leading:.2f}em"
    lines = [
        f'#set page(paper: {string(paper)}, margin: {margins}, numbering: "1"{columns})',
        f'#set text(font: "New Computer Modern", size: {size}pt, lang: {string(look.language)})',
        f"#set par(justify: true, leading: {leading:.2f}em, spacing: {spacing}, "
        f"first-line-indent: {indent})",
        '#set heading(numbering: "1.1")',
        "#set ref(supplement: none)",
        "#set list(indent: 1.2em)",
        "#set enum(indent: 1.2em)",
        '#show raw: set text(font: "DejaVu Sans Mono", size: 0.95em)',
        "#show heading: set block(above: 1.4em, below: 1em)",
        "#show heading: it => block(if it.numbering == none { it.body } else {"
        " [#counter(heading).display(it.numbering)#h(1em)#it.body] })",
        f"#show heading.where(level: 1): set text(size: {first * size:.1f}pt)",
        f"#show heading.where(level: 2): set text(size: {second * size:.1f}pt)",
        f"#show heading.where(level: 3): set text(size: {third * size:.1f}pt)",
        "#show heading.where(level: 4): it => strong(it.body) + h(1em)",
        "#show heading.where(level: 5): it => strong(it.body) + h(1em)",
        "#show figure.where(kind: table): set figure.caption(position: top)",
        "#set table(inset: (x: 6pt, y: 3pt))",
        "#set figure(gap: 1em)",
        "#show figure: set block(above: 1.5em, below: 1.5em)",
        "#show table: set par(justify: false, first-line-indent: 0pt)",
    ]
    if look.chapters:
        lines.append(CHAPTERS)
    if "$" in body:
        within = (
            'n => numbering("(1.1)", counter(heading).get().first(), n)' if look.within else '"(1)"'
        )
        if "#unnumbered" in body or look.within or re.search(r"\$\s[^$]*\s\$", body):
            lines.append(f"#set math.equation(numbering: {within})")
        lines.append("#show math.equation.where(block: true): set block(above: 1em, below: 1em)")
    if look.within:
        lines.append(
            "#show heading.where(level: 1): it => { counter(math.equation).update(0); it }"
        )
    kinds = {each.counter: each.within for each in theorems}
    for kind in ("reference", "algorithm", *kinds):
        if f"{kind}" in ("reference", "algorithm") and f"#{kind}(" not in body:
            continue
        lines.append(
            f"#show figure.where(kind: {string(kind)}): "
            "it => block(width: 100%, align(left, it.body))"
        )
        if kinds.get(kind):
            lines.append(
                "#show heading.where(level: 1): it => "
                f"{{ counter(figure.where(kind: {string(kind)})).update(0); it }}"
            )
    return "\n".join(lines) + "\n" + _helpers(body, look, theorems)


CHAPTERS = """#show heading.where(level: 1): it => {
  pagebreak(weak: true)
  set par(first-line-indent: 0pt)
  v(3em)
  if it.numbering != none {
    text(size: 1.2em)[Chapter #counter(heading).display(it.numbering)]
    linebreak()
    v(0.5em)
  }
  block(below: 2em, text(size: 1.2em, it.body))
}"""


def _slides() -> str:
    return """#set page(width: 12.8cm, height: 9.6cm, margin: (x: 1cm, y: 0.6cm), numbering: "1")
#set text(font: "New Computer Modern Sans", size: 11pt)
#set ref(supplement: none)
#set heading(numbering: none)
#show heading: none
#set math.equation(numbering: "(1)")
"""


def _helpers(body: str, look: Layout, theorems: Iterable[Theorem]) -> str:
    """Those that the body calls, and those that these call."""
    within = sorted({each.counter for each in theorems if each.within})
    codes = [
        code.replace("EQUATION", _equation_number(look)).replace(
            "WITHIN", "".join(f"{string(each)}, " for each in within)
        )
        for code in _called(body, HELPERS)
    ]
    return "\n\n".join(["", *codes]) + ("\n" if codes else "")


def alone(body: str) -> str:
    """The helpers that a block calls which is compiled without the document around it."""
    helpers = {name: HELPERS[name] for name in HELPERS if name not in ("bare", "show-references")}
    return "\n\n".join(_called(body, helpers)).replace("EQUATION", "[]").replace("WITHIN", "")


def _called(body: str, helpers: dict[str, str]) -> list[str]:
    """Those that the body calls, and those that these call, each behind those that it calls."""
    found: list[str] = []
    text = body
    for name, code in helpers.items():
        called = REFERS if name == "show-references" else rf"[#\s(\[]{name}[(\[]"
        if re.search(called, text):
            found.append(code)
            text += f"\n{code}"
    return found[::-1]


def _equation_number(look: Layout) -> str:
    if look.within:
        return 'numbering("(1.1)", counter(heading).at(place).first(), n)'
    return 'numbering("(1)", n)'


REFERS = r"@\w|#ref\(|#bare\("
HELPERS = {
    match[1] if (match := re.search(r"#let ([\w-]+)", code)) else "show-references": code.strip()
    for code in Path(__file__).with_name("helpers.typ").read_text("utf-8").split("\n\n")
}
"""By name; each before those that it calls."""
