"""LaTeX -> Typst: converters and runs of one's own on published formulas -> bench/typst/results.md.

python -m bench.typst build                     bring the published files; say what is there
python -m bench.typst run --rows 300            every converter that is there, on so many rows a source
python -m bench.typst run --run typst-003       and a trained run, by `python -m stages apply`
python -m bench.typst run --converter typst-003 and the converter of documents with it, whole and by its parts
python -m bench.typst documents                 the same of documents that the benchmark writes itself -> documents.md
python -m bench.typst measures                  how well the likeness of pictures tells right from wrong
"""

import argparse
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict
from functools import partial
from pathlib import Path

from bench.typst import documents, judge, judge_documents, measures, own_runs, peers, sources, table
from bench.typst.sources import Row
from stages.errors import UserError
from stages.files import atomic_write, read_json, read_json_lines, write_json
from stages.progress_lines import ProgressLines
from stages.scoring import tex

RESULTS = Path(__file__).with_name("results.md")
FOLDER = Path(".scratch/bench/typst")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.typst",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("what", choices=("build", "run", "documents", "measures"))
    parser.add_argument(
        "--sources", type=Path, default=FOLDER / "sources", help="where the published files lie"
    )
    parser.add_argument("--folder", type=Path, default=FOLDER, help="for answers, npm's packages")
    parser.add_argument(
        "--rows", type=int, default=300, help="of each source, drawn by a hash (300)"
    )
    parser.add_argument(
        "--run", action="append", default=[], help="a trained run, asked for each formula"
    )
    parser.add_argument(
        "--converter", action="append", default=[], help="a trained run, asked for documents"
    )
    parser.add_argument(
        "--by",
        action="append",
        choices=[*own_runs.WAYS.values()],
        help="what of the converter is asked (all of these; a model alone takes many minutes)",
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="where to write them")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    try:
        if options.what == "build":
            sources.fetch(options.sources)
            print(sources.told(options.sources))
        elif options.what == "measures":
            print(measures.told(options.sources))
        elif options.what == "documents":
            run_documents(options)
        else:
            run(options)
    except UserError as error:
        parser.exit(2, f"{error}\n")


def run(options: argparse.Namespace) -> None:
    rows = sources.rows(options.sources, options.rows)
    facts = judge.facts(rows)
    results: table.Results = {}
    left_out = []
    for name in peers.CONVERTERS:
        if why := peers.absent(name, options.folder):
            left_out.append(why)
            print(why)
            continue
        with peers.Converter(name, options.folder) as converter:
            answers = kept(options.folder, name, rows, converter.answers)
        results[name] = judged(options.folder, name, rows, answers, facts)
    for name, ask in own_runs.ways(options.run, options.converter, options.by).items():
        answers = kept(options.folder / own_runs.stamp(), name, rows, ask, own_runs.AT_ONCE)
        results[name] = judged(options.folder, name, rows, answers, facts)
    if not tex.available():
        left_out.append(f"No picture is compared: LaTeX is not there (`{tex.INSTALL}`)")
    found = table.lines(rows, results)
    drawn = sum(each is not None for each in facts.drawn)
    referred = sum(each is not None for each in facts.fingerprints)
    with atomic_write(options.results) as file:
        ours = [name for name in results if name not in peers.CONVERTERS or name == peers.OWN]
        file.write(
            table.page(rows, found, drawn, referred, left_out, _called(options), results, ours)
        )
    table.write_csv(options.results.with_suffix(".csv"), found)
    print(f"{options.results}, {options.results.with_suffix('.csv')}")


def run_documents(options: argparse.Namespace) -> None:
    written = documents.write(options.folder / "documents")
    latex = {kind: judge_documents.of_latex(path) for kind, path in written.items()}
    asks: dict[str, Callable[[Path], peers.Answer]] = {}
    left_out = []
    for name in peers.OF_DOCUMENTS:
        if why := peers.absent(name, options.folder):
            left_out.append(why)
        else:
            asks[name] = partial(peers.document, name)
    asks |= {
        f"{name}, {way}": partial(own_runs.paper, name, by)
        for name in options.converter
        for way, by in own_runs.WAYS.items()
        if by in (options.by or own_runs.WAYS.values())
    }
    found: dict[str, list[tuple[judge_documents.DocumentVerdict, float]]] = {}
    with ProgressLines("documents", len(asks) * len(written), "documents") as lines:
        for system, ask in asks.items():
            for kind, path in written.items():
                answer = kept_document(options.folder / own_runs.stamp(), system, kind, path, ask)
                pages = judge_documents.of_typst(answer.text or "#(", path.parent)
                verdict = judge_documents.verdict(latex[kind], pages)
                found.setdefault(system, []).append((verdict, answer.seconds))
                lines.advance(1)
    counts = {kind: len(each.pictures) if each else None for kind, each in latex.items()}
    path = options.results.with_name("documents.md")
    with atomic_write(path) as file:
        ours = [name for name in found if name not in peers.OF_DOCUMENTS]
        file.write(table.documents_page(counts, found, left_out, _called(options), ours))
    print(path)


def kept_document(
    folder: Path, system: str, kind: str, path: Path, ask: Callable[[Path], peers.Answer]
) -> peers.Answer:
    """A system's answer to a document, which is asked for once."""
    text = path.read_text(encoding="utf-8")
    place = folder / "documents" / system.replace(" ", "_") / f"{kind}.json"
    if place.is_file():
        record = read_json(place)
        if record.pop("latex") == text:
            return peers.Answer(**record)
    answer = ask(path)
    place.parent.mkdir(parents=True, exist_ok=True)
    write_json(place, {"latex": text, **asdict(answer)})
    return answer


def _called(options: argparse.Namespace) -> str:
    """The command, without where things lie."""
    words = ["python -m bench.typst", options.what]
    words += [f"--rows {options.rows}"] if options.what == "run" else []
    words += [f"--run {name}" for name in options.run if options.what == "run"]
    words += [f"--converter {name}" for name in options.converter]
    return " ".join([*words, *(f"--by {by}" for by in options.by or [])])


AT_ONCE = 50


def kept(
    folder: Path,
    name: str,
    rows: list[Row],
    ask: Callable[[list[str]], Iterable[peers.Answer]],
    at_once: int = AT_ONCE,
) -> list[peers.Answer]:
    """The answers of a system, of which those that an earlier call has kept are not asked for."""
    path = folder / "answers" / f"{name.replace(' ', '_')}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    known = {}
    if path.is_file():
        for _, record in read_json_lines(path):
            if isinstance(record, dict):
                known[record["latex"]] = peers.Answer(
                    record["text"], record["seconds"], record["mode"]
                )
    waiting = [row.latex for row in rows if row.latex not in known]
    with (
        path.open("a", encoding="utf-8") as file,
        ProgressLines(name, len(waiting), "rows") as lines,
    ):
        for at in range(0, len(waiting), at_once):
            part = waiting[at : at + at_once]
            for latex, answer in zip(part, ask(part), strict=True):
                known[latex] = answer
                file.write(json.dumps({"latex": latex, **asdict(answer)}) + "\n")
            file.flush()
            lines.advance(len(part))
    return [known[row.latex] for row in rows]


def judged(
    folder: Path, name: str, rows: list[Row], answers: list[peers.Answer], facts: judge.Facts
) -> tuple[list[judge.Verdict], list[float]]:
    path = folder / "likeness.jsonl"
    known: judge.Likenesses = {}
    if path.is_file():
        for _, record in read_json_lines(path):
            if isinstance(record, dict):
                known[record["latex"], record["fingerprint"]] = record["likeness"]
    before = set(known)
    lacking = sum(answer.text is None for answer in answers)
    print(f"{name}: {lacking} of {len(rows)} rows without an answer", flush=True)
    texts = ["#(" if answer.text is None else answer.text for answer in answers]
    modes = [answer.mode or row.mode for row, answer in zip(rows, answers, strict=True)]
    found = judge.verdicts(rows, texts, modes, facts, known)
    with path.open("a", encoding="utf-8") as file:
        for key in known.keys() - before:
            record = dict(zip(("latex", "fingerprint"), key, strict=True))
            file.write(json.dumps(record | {"likeness": known[key]}) + "\n")
    return found, [answer.seconds for answer in answers]


if __name__ == "__main__":
    main()
