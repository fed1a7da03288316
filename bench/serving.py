"""W8. 32 requests at once to `serve`, by OpenAI's client in 32 threads on the same cores, beside the
same rows in one call of the answerer, as `predict` makes it. Timed from the first request to the
last answer, with models loaded; the first round of each is not counted.

With the default graph's typst-003, whose 32 answers take about a tenth of a second, and with a model
as large as SmolLM2-135M, where HTTP and the client are a small part of the work."""

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench import predict, pretrained
from bench.turns import Work, Workload
from stages.records import read_rows
from stages.serving.runs import TrainedRun

AT_ONCE, ROUNDS = 32, 3
DEMO = "typst-003"


@dataclass(frozen=True)
class Untuned(TrainedRun):
    """A base that answers without an adapter."""

    @property
    def folder(self) -> Path:
        return Path(self.base)


def run_of(folder: Path, large: bool) -> TrainedRun:
    from stages.params import load_params
    from stages.serving.runs import trained_run

    demo = trained_run(load_params(), DEMO)
    if not large:
        return demo
    return Untuned("large", demo.task, str(folder / "base"), predict.options(1024))


def questions(folder: Path, large: bool) -> list[str]:
    if large:
        return [prompt[-1]["content"] for prompt in predict.prompts(folder)][:AT_ONCE]
    return [row["source"] for row in read_rows(Path(f"data/prepared/typst/test/{DEMO}.jsonl"))][
        :AT_ONCE
    ]


def make_demo(folder: Path) -> None:
    (folder / "answers.json").unlink(missing_ok=True)


def timed(folder: Path, answer: Callable[[], list[str]]) -> Work:
    work, answers = Work(), answer()
    for _ in range(ROUNDS):
        with work.timed():
            answers = answer()
    predict.report(work, folder, answers)
    work.done = ROUNDS * len(answers)
    return work


def in_one_call(folder: Path, large: bool) -> Work:
    run = run_of(folder, large)
    answerer, rows = run.load(), [run.question(text) for text in questions(folder, large)]
    return timed(folder, lambda: answerer.respond(rows))


def served(folder: Path, large: bool) -> Work:
    import openai

    command = [sys.executable, "-m", "bench.serving", str(folder), *(["large"] if large else [])]
    texts = questions(folder, large)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        address = server.stdout.readline().partition(" at ")[2].split()[0]
        client = openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)
        model = client.models.list().data[0].id

        def ask(text: str) -> str:
            said = [{"role": "user", "content": text}]
            made = client.chat.completions.create(model=model, messages=said)  # type: ignore
            return str(made.choices[0].message.content)

        with ThreadPoolExecutor(AT_ONCE) as pool:
            work = timed(folder, lambda: list(pool.map(ask, texts)))
        server.terminate()
    return work


def serve(folder: Path, large: bool) -> None:
    """As the command does, for a run that may be in no params.yaml."""
    import uvicorn

    from stages.commands.serve import configured, greeting, hosts_at, listening
    from stages.serving.app import Limits, application
    from stages.serving.batcher import Batcher
    from stages.serving.runs import LoadedRuns

    run = run_of(folder, large)
    with listening("127.0.0.1", 0) as listener:
        batcher = Batcher(LoadedRuns(), 256, [run])
        batcher.ready()
        app = application([run], batcher, Limits(2**20, 600), hosts_at(listener))
        print(greeting(listener, [run.name]), flush=True)
        uvicorn.Server(configured(app)).run(sockets=[listener])


def workload(title: str, make: Callable[[Path], None], large: bool) -> Workload:
    together = "answered in one call"
    return Workload(
        title,
        "rows",
        make,
        {
            "served, 32 at once": partial(served, large=large),
            together: partial(in_one_call, large=large),
        },
        {together: 0.8},
    )


WORKLOADS = {
    "serve": workload(f"32 requests at once to {DEMO}", make_demo, large=False),
    "serve-pretrained": workload(
        "32 requests at once to a model as large as SmolLM2-135M", pretrained.make, large=True
    ),
}

if __name__ == "__main__":
    serve(Path(sys.argv[1]), large=len(sys.argv) > 2)
