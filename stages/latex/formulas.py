"""The Typst of a document's formulas: by our own rules; of what these do not know, by other
converters where they draw one picture, else by a model too.

A candidate is compiled in the confined workers of stages/scoring/render.py. That it compiles does
not make it right. Of 199 published formulas that LaTeX draws, these shares look like LaTeX's
picture: tex2typst 0.62, pandoc 0.69, Tylax 0.70, the first of them in ORDER that compiles 0.78, the
best of them 0.81. Of 391 others: our own rules 0.89, MiTeX 0.78, pandoc 0.65, so that where ours
know a formula nobody else is asked.
"""

import re
from collections.abc import Callable, Sequence

from stages.latex.formula_rules import typst_of
from stages.latex.kept_converters import KeptConverters
from stages.latex.pandoc import Pandoc
from stages.scoring.render import Renderer

OWN = "own rules"
MODEL = "model"
ORDER = ("pandoc", "tylax", "tex2typst", MODEL)
"""Who is believed, first to last."""

NORM = re.compile(r"\\\||Vert(?![A-Za-z])")
"""A double bar, which pandoc 3.9 writes as a sign of relation, with room at both sides."""

BRACES = re.compile(r"\\[{}]|brace|cases|set(?![A-Za-z])")

UNSAFE = re.compile(r"\$|//|/\*|(?<!\\)(?:\\\\)*\\\Z")
"""What would end a formula that it is written into: `$`, a comment, a backslash at its end."""

CODE = re.compile(
    r"#(?!(?:h|v|text|box|scale|math|sym|emoji|strong|emph|underline|overline|stack|grid|rotate"
    r"|highlight|strike)\b)"
)
"""A model's or converter's code beyond what formulas need, such as `#read` or `#show`."""

Answers = Callable[[Sequence[str]], Sequence[Sequence[str]]]
"""For LaTeX formulas the candidates of a model, best first."""


def chosen(latex: str, candidates: dict[str, str], pictures: dict[str, bytes | None]) -> str | None:
    """The name of the candidate to take: the first of ORDER that compiles; where the model draws
    what one of the rules does, that one; of those that draw the same the shortest, which is read
    best. None where no candidate compiles to a picture.

    candidates: Typst by name.   pictures: of each Typst its fingerprint, None where it does not
    compile.
    """

    def place(name: str) -> tuple[bool, int, int]:
        base, _, further = name.partition(" ")
        return base == "pandoc" and bool(NORM.search(latex)), ORDER.index(base), int(further or 1)

    drawn = {name: pictures[typst] for name, typst in candidates.items() if pictures[typst]}
    of_model = drawn.get(MODEL)
    believed = [name for name, picture in drawn.items() if of_model and picture == of_model]
    first = min(believed if len(believed) > 1 else drawn, key=place, default=None)
    if first is None:
        return None
    same = [name for name, picture in drawn.items() if picture == drawn[first]]
    return min(same, key=lambda name: (len(candidates[name]), place(name)))


class Formulas:
    """Converts formulas, each different one once.

    rules: whether rules are asked.   greedy: the model's answers, one for each formula, asked where
    rules draw no picture or several; None: rules alone.   more: its further candidates, asked where
    nothing compiles yet.
    """

    def __init__(
        self, pandoc: Pandoc, greedy: Answers | None, more: Answers | None, rules: bool
    ) -> None:
        self.pandoc, self.greedy, self.more, self.rules = pandoc, greedy, more, rules

    def converted(self, latex: Sequence[str]) -> dict[str, tuple[str, str]]:
        """(Typst, by which candidate) of those that a candidate converts."""
        asked = list(dict.fromkeys(latex))
        with Renderer() as renderer:
            found = self._by_own_rules(renderer, asked) if self.rules else {}
            asked = [each for each in asked if each not in found]
            candidates: dict[str, dict[str, str]] = {each: {} for each in asked}
            if self.rules and asked:
                self._ask_rules(asked, candidates)
            pictures = self._pictures(renderer, candidates)
            contested = [
                each
                for each in asked
                if len({pictures[typst] for typst in candidates[each].values()} - {None}) != 1
            ]
            if self.greedy:
                for each, answers in zip(contested, self.greedy(contested), strict=True):
                    if answers and _is_safe(answers[0], each):
                        candidates[each][MODEL] = answers[0]
                pictures |= self._pictures(renderer, candidates)
            if self.more:
                failed = [
                    each for each in contested if not chosen(each, candidates[each], pictures)
                ]
                for each, answers in zip(failed, self.more(failed), strict=True):
                    candidates[each] |= {
                        f"{MODEL} {at}": answer
                        for at, answer in enumerate(answers, 2)
                        if _is_safe(answer, each)
                    }
                pictures |= self._pictures(renderer, candidates)
        for each in asked:
            if name := chosen(each, candidates[each], pictures):
                found[each] = candidates[each][name], name
        return found

    @staticmethod
    def _by_own_rules(renderer: Renderer, asked: list[str]) -> dict[str, tuple[str, str]]:
        """Of the formulas that they know: what they draw is like LaTeX's picture more often than
        what is chosen among all others.
        """
        own = {each: typst for each in asked if (typst := typst_of(each))}
        drawn = renderer.render([*own.values()], "math")
        return {
            each: (typst, OWN)
            for (each, typst), picture in zip(own.items(), drawn, strict=True)
            if picture
        }

    def _ask_rules(self, asked: list[str], candidates: dict[str, dict[str, str]]) -> None:
        with KeptConverters() as converters:
            for each, answers in zip(asked, converters.formulas(asked), strict=True):
                candidates[each] |= {
                    name: answer for name, answer in answers.items() if _is_safe(answer, each)
                }
        math = [
            [{"t": "Para", "c": [{"t": "Math", "c": [{"t": "InlineMath"}, each]}]}]
            for each in asked
        ]
        for each, written in zip(asked, self.pandoc.write(math), strict=True):
            if written and written.startswith("$") and written.endswith("$") and len(written) > 2:
                answer = written[1:-1].strip()
                if _is_safe(answer, each):
                    candidates[each]["pandoc"] = answer

    @staticmethod
    def _pictures(
        renderer: Renderer, candidates: dict[str, dict[str, str]]
    ) -> dict[str, bytes | None]:
        sources = list(
            dict.fromkeys(each for known in candidates.values() for each in known.values())
        )
        return dict(zip(sources, renderer.render(sources, "math"), strict=True))


def _is_safe(typst: str, latex: str) -> bool:
    """Whether a candidate may be written into a formula, and draws no braces that LaTeX does not:
    Tylax 0.3.8 writes `sqrt({a, b})` for `\\sqrt{a, b}`.
    """
    bare = re.sub(r'"(?:[^"\\]|\\.)*"', "", typst)
    if not typst.strip() or UNSAFE.search(bare) or CODE.search(bare):
        return False
    return bool(BRACES.search(latex)) or not re.search(r"[{}]", bare)
