"""The Typst of a block with its marks filled in: formulas, references, what stays LaTeX."""

import re
from collections.abc import Collection
from dataclasses import dataclass, field

from stages.latex import template
from stages.latex.pieces import Found, Label, comment, filled, raw_block, string

NAMES = {
    "equation": ("Equation", "eq."), "line": ("Equation", "eq."), "figure": ("Figure", "fig."),
    "table": ("Table", "table"), "heading": ("Section", "section"),
    "Algorithm": ("Algorithm", "algorithm"),
}  # fmt: skip
"""What `\\autoref` and `\\Cref` write before a number, and what `\\cref` does."""

SUFFIX = re.compile("\ue000reference([0-9]+)\ue001\ue002(.*?)\ue003", re.DOTALL)
SIMPLE_KEY = re.compile(r"[A-Za-z0-9][\w:-]*\Z")
UNKNOWN = "*??*"


@dataclass
class Filling:
    """keys: of the bibliography file beside the document; none where it has none.
    bibliography: the Typst that shows it.
    cited, anchors: of each entry of a `thebibliography`, what a citation shows, and its label.
    """

    found: Found
    keys: Collection[str] = ()
    bibliography: str = ""
    cited: dict[str, str] = field(default_factory=dict)
    anchors: dict[str, str] = field(default_factory=dict)
    gone: Collection[int] = ()

    def final(self, text: str, gone: Collection[int], places: dict[int, str]) -> str:
        """As it stands in the document.   gone: blocks that stay LaTeX, with their labels."""
        self.gone = gone
        write = {
            "formula": lambda index, after: self._formula(index),
            "left": lambda index, after: self._left(index, places),
            "reference": lambda index, after: self._reference(index, after),
        }
        text = SUFFIX.sub(self._with_suffix, text)
        return filled(text, write)

    def alone(self, text: str) -> str:
        """As it is compiled to see whether it does: what it refers to is not there."""
        write = {
            "formula": lambda index, after: self._formula(index),
            "left": lambda index, after: self._left(index, {}),
            "reference": lambda index, after: "0",
        }
        text = filled(SUFFIX.sub("0", text), write)
        if self.bibliography:
            text = text.replace(self.bibliography, "")
        text = re.sub(r'#box\(image\("[^"]*"', '#box(no-image(""', text)
        return f"{template.alone(text)}\n{text}"

    def _with_suffix(self, found: re.Match[str]) -> str:
        """A citation's place in what it cites, inside its brackets."""
        index, suffix = int(found[1]), found[2].strip().lstrip(",").strip()
        reference = self.found.references[index]
        if self.keys:
            last = reference.labels[-1]
            if last in self.keys:
                others = reference.labels[:-1]
                before = self._citation(reference.command[5:], others) if others else ""
                return f"{before}#cite(label({string(last)}), supplement: [{suffix}]);"
            return self._citation(reference.command[5:], reference.labels)
        return f"{self._citation(reference.command[5:], reference.labels)[:-2]}, {suffix}\\]"

    def _formula(self, index: int) -> str:
        formula = self.found.formulas[index]
        return (
            formula.typst if formula.typst is not None else f"#latex-left({string(formula.latex)})"
        )

    def _left(self, index: int, places: dict[int, str]) -> str:
        left = self.found.lefts[index]
        if left.inline:
            return f"#latex-left({string(left.latex)});"
        where = places.get(left.block, "")
        told = comment(f"{where}: left as LaTeX: {left.why}")
        return f"{told}\n#latex-left[\n{raw_block(left.latex)}\n]"

    def _reference(self, index: int, after: str) -> str:
        reference = self.found.references[index]
        if reference.command.startswith("cite:"):
            return self._citation(reference.command[5:], reference.labels)
        shown = []
        labels = [each.strip() for each in reference.labels]
        for at, latex in enumerate(labels):
            label = self.found.labels.get(latex)
            last = at == len(labels) - 1
            if not label or not self._is_there(latex):
                shown.append(UNKNOWN)
            else:
                shown.append(_referred(reference.command, label, after if last else ","))
        return ", ".join(shown)

    def _is_there(self, latex: str) -> bool:
        label = self.found.labels.get(latex)
        return label is not None and label.block not in self.gone

    def _citation(self, command: str, keys: list[str]) -> str:
        if self.keys:
            form = {
                "citet": "prose",
                "textcite": "prose",
                "citeauthor": "author",
                "citeyear": "year",
            }.get(command, "")
            option = f', form: "{form}"' if form else ""
            known = [key for key in keys if key in self.keys]
            missing = "".join(f"[*{_escaped(key)}?*]" for key in keys if key not in self.keys)
            return " ".join(f"#cite(label({string(key)}){option});" for key in known) + missing
        shown = []
        for key in keys:
            if key not in self.cited:
                shown.append(f"*{_escaped(key)}?*")
            elif (anchor := self.anchors.get(key)) and self._is_there(f"cite:{key}"):
                shown.append(f"#link(<{anchor}>)[{_escaped(self.cited[key])}]")
            else:
                shown.append(_escaped(self.cited[key]))
        return f"\\[{', '.join(shown)}\\]"


def _referred(command: str, label: Label, after: str) -> str:
    name = label.name
    if label.shown:
        shown = label.shown if command != "ref" else label.shown.strip("()")
        return f"#link(<{name}>)[{_escaped(shown)}]"
    if label.kind == "block":
        return UNKNOWN  # what has no number in Typst
    if command in ("pageref", "cpageref"):
        return f"#context counter(page).at(<{name}>).first();"
    if label.kind in ("equation", "line") and command in ("ref", "autoref", "Autoref"):
        number = f"#bare(<{name}>)"
        number += "" if _ends(after) else ";"
    elif _ends(after):
        number = f"@{name}"
    else:
        number = f"#ref(<{name}>);"
    if command in ("autoref", "Autoref", "Cref", "cref", "Vref", "vref", "fref"):
        long, short = NAMES.get(label.kind, (label.kind, label.kind.lower()))
        return f"{short if command == 'cref' else long}~{number}"
    return number


def _ends(after: str) -> bool:
    """Whether what follows cannot be taken for more of a label, or for an argument."""
    return after[:1] in ("", " ", "\n", ",", ")", "]") or (
        after[0] in ".;:!?" and after[1:] in ("", " ", "\n")
    )


def _escaped(text: str) -> str:
    return re.sub(r"([\\#$*_`<>@\[\]~/\"'=+-])", r"\\\1", text)
