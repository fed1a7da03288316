"""The figures as Markdown for a comment on a pull request: what became better or worse, and why."""

from pathlib import Path
from typing import Any

from stages.page import against
from stages.page.against import LONGEST_SENTENCE, Judged
from stages.page.contents import TaskRuns
from stages.page.markdown import bars, code, folded, table
from stages.page.revisions import Copy
from stages.scoring.bootstrap import Difference

MARK = "<!-- tsugiki report -->"
"""The first line, by which whoever posts the next one finds this one."""

LONGEST = 60_000
"""Characters. GitHub takes 65,536; what posts it may add some lines."""

MOST_RUNS = 20  # of a table
MOST_TOLD = 8  # runs in words
MOST_MOVED = 6  # test sets and categories of a run, of each kind
MOST_SETS = 10  # test sets in a matrix
MOST_SETTINGS = 6
TOLD = ("code.", "run.corpus", "run.parent", "shares.")  # settings that are, in other words
SIGNS = {"better": "▲ better", "worse": "▼ worse"}


def of_tasks(read: list[TaskRuns], here: Copy, there: Copy | None, scratch: Path) -> str:
    """here: the workspace.   there: the revision that it is compared with, if any.   scratch: a
    folder for files of it.
    """
    judged = {of.task: against.judged(of, here, there, scratch) for of in read}
    told = [each for of in judged.values() for each in of if each.state != "same"]
    gone = [run for of in read for run in against.gone(of)]
    parts = [
        f"{MARK}\n### {_headline(told, sum(map(len, judged.values())), there)}",
        _table_of(told, there),
        _words_of(told),
        _gone(gone),
    ]
    end = (
        "Intervals are 95 %, by resampling the held-out rows; two runs are compared on the rows "
        "that both answered. Of 20 differences that are none, one is told by chance."
    )
    with_news_first = sorted(read, key=lambda of: all(j.state == "same" for j in judged[of.task]))
    tasks = [_of_task(of) for of in with_news_first]
    return _short_enough([part for part in parts if part], tasks, end)


def _headline(told: list[Judged], runs: int, there: Copy | None) -> str:
    verdicts = [each.change.verdict if each.change else "" for each in told]
    counts = {
        "better": verdicts.count("better"),
        "worse": verdicts.count("worse"),
        "without a difference that shows": verdicts.count("no difference shown"),
        "compared with none": verdicts.count(""),
    }
    if there:
        counts[f"as on {code(there.revision)}"] = runs - len(told)
    return f"{_many(runs, 'run')}: " + ", ".join(f"{n} {what}" for what, n in counts.items() if n)


def _table_of(told: list[Judged], there: Copy | None) -> str:
    rows = [
        (
            each.run["run"],
            _score(each.run),
            _other(each),
            _difference(each.change),
            _verdict(each, there),
        )
        for each in told[-MOST_RUNS:]
    ]
    if not rows:
        return ""
    header = ("run", "score (interval)", "against", "difference (interval)", "verdict")
    return _left_out(len(told) - len(rows), "run") + table(header, rows)


def _verdict(each: Judged, there: Copy | None) -> str:
    if each.change:
        return SIGNS.get(each.change.verdict, each.change.verdict)
    if each.state == "unknown":
        return "not told: the rows of one are not here"
    return "new" if there else ""


def _other(each: Judged) -> str:
    """A label is a run's name, or that with a revision's."""
    run, _, revision = each.other.partition("@")
    return f"{run} of {code(revision)}" if revision else run


def _words_of(told: list[Judged]) -> str:
    """What each run that is told of forgot and learned, and what made it."""
    shown = told[-MOST_TOLD:]
    return _left_out(len(told) - len(shown), "run") + "\n".join(map(_words, shown))


def _words(each: Judged) -> str:
    said = []
    verbs = ("worse on", "better on") if each.state == "changed" else ("forgot", "learned")
    for verb, verdict in zip(verbs, ("worse", "better"), strict=True):
        moved = [moved for moved in each.moved if moved.change.verdict == verdict]
        if moved:
            named = ", ".join(
                f"{moved.name if moved.test_set else code(moved.name)} {_difference(moved.change)}"
                for moved in moved[:MOST_MOVED]
            )
            more = len(moved) - MOST_MOVED
            said.append(f"{verb} {named}{f' and {more} more' if more > 0 else ''}")
    said += [*_data(each), *_settings(each), *_place(each)]
    if each.run["lacks"]:
        said.append(f"rows: {code(each.run['lacks'], LONGEST_SENTENCE)}")
    return f"- **{each.run['run']}**: {'; '.join(said) or 'not trained here'}"


def _data(each: Judged) -> list[str]:
    names = [_corpus(corpus) for corpus in each.run["lineage"].get("corpora", [])]
    if not names:
        return []
    beside = f": {each.data}" if each.data else ""
    mixed = f"; mixed with {', '.join(names[1:])}" if names[1:] else ""
    return [f"trained on {names[0]}{beside}{mixed}"]


def _corpus(corpus: dict[str, Any]) -> str:
    rows = "" if corpus["rows"] is None else f" ({corpus['rows']:,} rows)"
    share = "" if corpus["share"] == 1 else f" × {corpus['share']}"
    return f"{corpus['name']}{rows}{share}"


def _settings(each: Judged) -> list[str]:
    """Those that differ and are not told otherwise, and how many files of code."""
    named = [(what, then, now) for what, then, now in each.settings if not what.startswith(TOLD)]
    shown = [
        f"{code(what)} {_value(then)} → {_value(now)}" for what, then, now in named[:MOST_SETTINGS]
    ]
    if more := len(named) - len(shown):
        shown.append(f"{more} more")
    if files := sum(what.startswith("code.") for what, _, _ in each.settings):
        shown.append(_many(files, "file") + " of code")
    return [f"changed {', '.join(shown)}"] if shown else []


def _value(setting: Any) -> str:
    return "none" if setting is None else code(str(setting))


def _place(each: Judged) -> list[str]:
    made = each.run["lineage"]
    if not made:
        return []
    noted = made["noted"]
    several = f" in {noted['processes']} processes" if noted.get("processes", 1) > 1 else ""
    precision = f" in {noted['precision']}" if "precision" in noted else ""
    machine = f" on {code(noted['computed_on'])}" if "computed_on" in noted else ""
    parent = code(made["parent"].removeprefix("models/"))
    return [f"from {parent} in {noted['steps']:,} steps{machine}{several}{precision}"]


def _gone(runs: list[dict[str, Any]]) -> str:
    names = ", ".join(code(run["label"]) for run in runs[:MOST_RUNS])
    return f"Gone: {names}" if runs else ""


def _of_task(of: TaskRuns) -> str:
    """The chain, a picture of it, and the forgetting matrix."""
    runs = [run for run in of.figures if not run["revision"] and "score" in run]
    shown = runs[-MOST_RUNS:]
    header = ("run", "score (interval)", "parent", "difference (interval)", "verdict")
    chain = table(header, map(_link, shown))
    picture = bars(
        f"{of.task}: score on every held-out set so far, and the ends of its interval",
        [run["run"].removeprefix(f"{of.task}-") for run in shown],
        [(run["score"], run["low"], run["high"]) for run in shown],
    )
    left_out = _left_out(len(runs) - len(shown), "run")
    return folded(
        f"{of.task}: {_many(len(runs), 'run')}, the newest {_score(runs[-1]) if runs else ''}",
        "\n\n".join((left_out + chain, picture, _matrix(shown))),
    )


def _link(run: dict[str, Any]) -> tuple[str, ...]:
    change = against.from_parent(run)
    verdict = SIGNS.get(change.verdict, change.verdict) if change else ""
    return run["run"], _score(run), run.get("parent", ""), _difference(change), verdict


def _matrix(runs: list[dict[str, Any]]) -> str:
    """Each run on each test set."""
    sets = [*dict.fromkeys(name for run in runs for name in run["sets"])]
    shown = sets[-MOST_SETS:]
    rows = [(run["run"], *(_of_set(run["sets"].get(name)) for name in shown)) for run in runs]
    left_out = _left_out(len(sets) - len(shown), "test set")
    return left_out + table(("run on test set", *shown), rows)


def _of_set(group: dict[str, Any] | None) -> str:
    return f"{group['score']:.3f}" if group else ""


def _score(run: dict[str, Any]) -> str:
    if "score" not in run:
        return "not scored"
    return f"{run['score']:.3f} ({run['low']:.3f} to {run['high']:.3f})"


def _difference(change: Difference | None) -> str:
    if not change:
        return ""
    return f"{change.difference:+.3f} ({change.low:+.3f} to {change.high:+.3f})"


def _left_out(count: int, what: str) -> str:
    return f"{_many(count, f'further {what}')} on the page alone.\n\n" if count > 0 else ""


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _short_enough(first: list[str], tasks: list[str], end: str) -> str:
    """Without the last tasks where all would be longer than a comment may be."""
    for kept in range(len(tasks), -1, -1):
        left_out = _left_out(len(tasks) - kept, "task")
        text = "\n\n".join([*first, *tasks[:kept], left_out + end]) + "\n"
        if len(text) <= LONGEST:
            break
    return text
