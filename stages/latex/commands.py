r"""Commands that pandoc leaves as LaTeX, such as `\ref`, as nodes of its JSON."""

import re

from stages.latex.definitions import argument, arguments
from stages.latex.environments import raw_inline, tex_inline
from stages.latex.pandoc import Node
from stages.latex.pieces import Found

REFERENCES = {
    "ref", "eqref", "autoref", "cref", "Cref", "crefrange", "pageref", "nameref", "vref", "fref",
    "Autoref", "labelcref", "Vref", "subref", "cpageref",
}  # fmt: skip

SILENT = {
    "noindent", "indent", "centering", "raggedright", "raggedleft", "tiny", "scriptsize",
    "footnotesize", "small", "normalsize", "large", "Large", "LARGE", "huge", "Huge", "protect",
    "relax", "null", "leavevmode", "sloppy", "fussy", "frenchspacing", "allowbreak", "linebreak",
    "nolinebreak", "nopagebreak", "samepage", "pause", "normalfont", "rmfamily", "upshape",
    "mdseries", "qedhere", "frontmatter", "mainmatter", "backmatter", "onecolumn", "twocolumn",
    "balance", "flushbottom", "raggedbottom", "makeatletter", "makeatother", "selectfont",
    "ignorespaces", "unskip", "par", "FloatBarrier", "doublespacing", "singlespacing",
    "onehalfspacing", "boldmath", "unboldmath", "bgroup", "egroup", "begingroup", "endgroup",
    "topsep", "hline", "toprule", "midrule", "bottomrule", "IEEEpeerreviewmaketitle", "titlepage",
    "makeindex", "printindex", "xspace", "strut", "bigskip", "medskip", "smallskip", "vfill",
    "hfil", "cleardoublepage", "and", "nobreak", "newline",
}  # fmt: skip
"""Commands without arguments whose absence is a matter of layout alone."""

NEVER_RUN = {
    "write",
    "immediate",
    "openout",
    "closeout",
    "openin",
    "read",
    "ShellEscape",
    "directlua",
}
"""What reads, writes or runs something while TeX works: nothing is shown of it either."""

SILENT_WITH = {
    "vspace": "m", "hspace": "m", "thispagestyle": "m", "pagestyle": "m", "setlength": "mm",
    "addtolength": "mm", "setcounter": "mm", "addtocounter": "mm", "bibliographystyle": "m",
    "index": "m", "nocite": "m", "pagenumbering": "m", "enlargethispage": "m",
    "addcontentsline": "mmm", "markboth": "mm", "markright": "m", "hypersetup": "m", "lstset": "m",
    "captionsetup": "om", "renewcommand": "moom", "newcommand": "moom", "setstretch": "m",
    "linespread": "m", "graphicspath": "m", "DeclareGraphicsExtensions": "m", "phantom": "m",
    "hphantom": "m", "vphantom": "m", "usetikzlibrary": "m", "definecolor": "mmm", "color": "m",
    "fontsize": "mm", "institute": "m", "email": "m", "address": "m", "signature": "m", "date": "m",
    "title": "om", "author": "om", "usepackage": "om", "documentclass": "om",
    "RequirePackage": "om", "theoremstyle": "m", "newtheorem": "momo", "vskip": "", "hskip": "",
    "kern": "", "special": "m", "typeout": "m", "newline": "", "setbeamertemplate": "mom",
    "usetheme": "om", "usecolortheme": "om", "bibitem": "om", "footnotemark": "o",
    "hyphenation": "m", "numberwithin": "mm", "allowdisplaybreaks": "o", "geometry": "m",
    "DeclareMathOperator": "mm", "penalty": "", "looseness": "", "columnbreak": "",
    "newpagestyle": "mm", "phantomsection": "", "cite": "om",
}  # fmt: skip
SHOWN_LAST = {
    "mbox": "m", "hbox": "m", "makebox": "oom", "raisebox": "moom", "parbox": "ooomm", "text": "m",
    "textnormal": "m", "textrm": "m", "textmd": "m", "textup": "m", "resizebox": "mmm",
    "scalebox": "mom", "rotatebox": "omm", "thanks": "m", "footnotetext": "om", "uline": "m",
    "hl": "m", "sout": "m", "colorbox": "mm", "IEEEauthorblockN": "m", "IEEEauthorblockA": "m",
    "only": "m", "uncover": "m", "alert": "m", "structure": "m", "frame": "m", "framesubtitle": "m",
    "centerline": "m", "leftline": "m", "textsf": "m", "ensuremath": "m", "opening": "m",
    "closing": "m", "cc": "m", "encl": "m", "ps": "m", "keywords": "m", "subjclass": "om",
    "multirow": "mmm", "makecell": "om", "thead": "om", "shortstack": "om", "adjustbox": "mm",
    "textls": "om", "MakeUppercase": "m", "uppercase": "m", "lowercase": "m",
    "textsuperscript": "m", "textsubscript": "m", "acknowledgments": "", "inst": "m",
}  # fmt: skip
"""Commands of which the last argument is shown, and their arguments' form."""

TYPST = {
    "newpage": "#pagebreak(weak: true)", "clearpage": "#pagebreak(weak: true)",
    "pagebreak": "#pagebreak(weak: true)", "hfill": "#h(1fr)", "tableofcontents": "#outline()",
    "dotfill": "#box(width: 1fr, repeat[.])",
    "listoffigures": "#outline(title: [List of Figures], target: figure.where(kind: image))",
    "listoftables": "#outline(title: [List of Tables], target: figure.where(kind: table))",
    "appendix": '#counter(heading).update(0);#set heading(numbering: "A.1")',
    "quad": "#h(1em)", "qquad": "#h(2em)", "enspace": "#h(0.5em)",
    "qed": "#h(1fr)□",
}  # fmt: skip
COMMAND = re.compile(r"\s*\\(?P<name>[A-Za-z@]+|.)(?P<star>\*?)", re.DOTALL)
BOXES = {"fbox": "m", "framebox": "oom"}


def nodes(latex: str, found: Found, block: int, bibliography: str) -> list[Node] | None:
    """Nodes for one command; None for one that stays LaTeX.   bibliography: Typst for where a
    document has its own.
    """
    match = COMMAND.match(latex)
    if not match:
        return [] if not latex.strip() else None
    name, end = match["name"], match.end()
    if name in REFERENCES and (given := argument(latex, end)):
        return [
            raw_inline(found.reference(name, given[0].split(",") if "ref" in name else [given[0]]))
        ]
    if name == "label" and (given := argument(latex, end)):
        at = found.label(given[0], "heading", block)
        return [raw_inline(f'#metadata("heading") <{at}>')] if at else []
    if name in ("bibliography", "printbibliography"):
        return [raw_inline(bibliography)] if bibliography else []
    if name in TYPST:
        return [raw_inline(f"{TYPST[name]};" if TYPST[name][0] == "#" else TYPST[name])]
    if name in SILENT or name in NEVER_RUN:
        return []
    if name in SILENT_WITH and arguments(latex, end, SILENT_WITH[name]):
        return []
    if name in BOXES and (parts := arguments(latex, end, BOXES[name])):
        return [
            raw_inline("#box(stroke: 0.4pt, inset: 3pt)["),
            tex_inline(parts[0][-1]),
            raw_inline("]"),
        ]
    if name in SHOWN_LAST and (parts := arguments(latex, end, SHOWN_LAST[name])):
        if not parts[0]:
            return []
        # Behind the last argument there may be more that pandoc took for the command's.
        return [tex_inline(parts[0][-1] + latex[parts[1] :])]
    return None
