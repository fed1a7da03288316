"""LaTeX formulas -> Typst by converters that others keep, run in confined worker processes.

Both are native code that reads what strangers wrote: 500,000 nested braces end Tylax with a stack
overflow, and tex2typst's JavaScript engine took more than ten seconds for 4,000 nested `\\left(`
(Tylax 0.3.8, tex2typst 0.1.7).
"""

from collections.abc import Sequence
from importlib.util import find_spec

from stages.confined_workers import ConfinedWorkers
from stages.latex import converter_worker
from stages.latex.converter_worker import CONVERTERS

MAX_FORMULA_CHARACTERS = 20_000


class KeptConverters:
    """Worker processes that convert side by side; used as a context manager, which stops them.

    timeout_seconds: of one formula by one converter. A formula usually takes 5 ms at most.
    """

    def __init__(self, timeout_seconds: float = 3.0) -> None:
        self._workers = ConfinedWorkers(converter_worker.__name__, timeout_seconds=timeout_seconds)
        self.names = [name for name in CONVERTERS if find_spec(name)]

    def __enter__(self) -> "KeptConverters":
        return self

    def __exit__(self, *_: object) -> None:
        self._workers.__exit__()

    def formulas(self, sources: Sequence[str]) -> list[dict[str, str]]:
        """For each LaTeX formula the Typst that each converter makes of it, by its name: "tylax",
        "tex2typst". Without those that fail, write nothing, or are not installed.

        Whether it compiles, and means the same, is not known.
        """
        asked = [
            (name, source)
            for source in dict.fromkeys(sources)
            if len(source) <= MAX_FORMULA_CHARACTERS and "\0" not in source
            for name in self.names
        ]
        found: dict[str, dict[str, str]] = {source: {} for source in sources}
        answers = self._workers.answers(asked, "converting", "formulas by each converter")
        for (name, source), answer in zip(asked, answers, strict=True):
            if isinstance(answer, str) and answer.strip():
                found[source][name] = answer.strip()
        return [found[source] for source in sources]
