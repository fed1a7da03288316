"""params.yaml as one value: its layers become a run's options, its chains what a run trains on."""

from collections.abc import Iterable
from typing import Any

from pydantic import Field

from stages.entries import Base, Corpus, Run, Source, Split, Synthetic, Variant
from stages.settings import Answering, Options, Strict


class Params(Strict):
    allow_outside: bool = Field(
        False, description="whether corpora and models may lie outside the repository"
    )
    split: Split
    base: str = Field("", description="what the first run of a task starts from; `new` enters it")
    defaults: dict[str, Any]
    presets: dict[str, dict[str, Any]]
    tasks: dict[str, dict[str, Any]]
    compare: list[str] = Field(description="the tasks that have runs")
    synthetic: dict[str, Synthetic]
    sources: dict[str, Source] = Field({}, description="data sets of the hub that `fetch` reads")
    bases: dict[str, Base]
    corpora: dict[str, Corpus]
    runs: dict[str, Run]
    variants: dict[str, Variant] = Field({}, description="other ways in which runs answer")

    def options(self, presets: Iterable[str], *changes: dict[str, Any]) -> Options:
        """defaults < presets, in the order they are named < changes, in their order."""
        named = [self.presets[name] for name in presets]
        return Options.model_validate(merge(self.defaults, *named, *changes))

    def resolve(self, run: str) -> Options:
        """defaults < presets < task < the run's own < those of a variant of it."""
        if variant := self.variants.get(run):
            of_run = self.resolve(variant.model_of).model_dump()
            return Options.model_validate(merge(of_run, {"generation": variant.generation}))
        spec = self.runs[run]
        presets = [spec.preset] if isinstance(spec.preset, str) else spec.preset
        return self.options(presets, self.tasks[spec.task], spec.model_extra or {})

    def shares(self, run: str) -> dict[str, float]:
        """How often an epoch of a run has each row of each corpus.

        The run's own corpus once, also where an earlier run had it; what earlier runs were trained
        on, mixed corpora too, as `replay` says; those of `mix` as it says.
        """
        spec = self.runs[run]
        shares, before = {spec.corpus: 1.0}, self._parent(spec)
        while spec.replay and before:
            for corpus in (before.corpus, *before.mix):
                shares.setdefault(corpus, spec.replay)
            before = self._parent(before)
        return shares | spec.mix

    def _parent(self, run: Run) -> Run | None:
        """The run that a run continues from, where that is one of its task."""
        parent = self.runs.get(run.parent.removeprefix("models/"))
        return parent if parent and parent.task == run.task else None


def answering(options: Options) -> Answering:
    """What a run answers with: in an evaluation and in `apply` the same."""
    return Answering.model_validate(options.model_dump(include=set(Answering.model_fields)))


def merge(*layers: dict[str, Any]) -> dict[str, Any]:
    """Each layer over those before it, maps inside them key by key."""
    merged: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            both = isinstance(value, dict) and isinstance(merged.get(key), dict)
            merged[key] = merge(merged[key], value) if both else value
    return merged
