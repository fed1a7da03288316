"""Which stages may have to run, as DVC sees it, and in which order they best begin."""

from graphlib import TopologicalSorter

from stages.errors import UserError, nearest
from stages.params import load_params

TAKE_LONG = ("train", "predict")  # kinds of stages; the others take seconds


def stale_graph(targets: list[str]) -> dict[str, set[str]]:
    """{stage: those of them that it depends on} of all that may run: what has changed, as DVC sees
    it, and what depends on that.
    """
    from dvc.exceptions import DvcException

    load_params()  # says what is wrong there, and where, better than DVC
    try:
        return _stale_graph(targets)
    except DvcException as error:
        why = " ".join(str(error).split())
        raise UserError(f"dvc: {why}; see above, correct it, then run again") from None


def _stale_graph(targets: list[str]) -> dict[str, set[str]]:
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    # First, as all else depends on it; anew after it, because a Repo keeps what it has read.
    with Repo(_wait_for_lock=True) as repo:
        repo.reproduce("configure", single_item=True)
    with Repo(_wait_for_lock=True) as repo:
        names = {stage.addressing for stage in repo.index.stages}
        wanted = set()
        for target in targets:
            try:
                wanted |= {stage.addressing for stage in repo.stage.collect(target)}
            except DvcException:
                raise UserError(
                    f"{target}: no stage of dvc.yaml has this name{nearest(target, sorted(names))}"
                ) from None
        graph = repo.index.graph
        needs = {
            stage.addressing: {needed.addressing for needed in graph.successors(stage)}
            for stage in graph
        }
        changed = set(repo.status(targets=targets or None, with_deps=True))
    order = list(TopologicalSorter(needs).static_order())
    for name in order:
        if needs[name] & changed:
            changed.add(name)
    if targets:
        for name in reversed(order):
            if name in wanted:
                wanted |= needs[name]
        changed &= wanted
    return {name: needs[name] & changed for name in order if name in changed}


def long_after(graph: dict[str, set[str]]) -> dict[str, int]:
    """How many stages of those that take long are one after the other from each stage on: where
    this is greatest, a delay delays the end.
    """
    after = dict.fromkeys(graph, 0)
    for name in reversed(list(TopologicalSorter(graph).static_order())):
        after[name] += name.partition("@")[0] in TAKE_LONG
        for needed in graph[name]:
            after[needed] = max(after[needed], after[name])
    return after
