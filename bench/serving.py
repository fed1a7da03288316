"""W8. 32 requests at once to `serve`, by OpenAI's client in 32 threads on the same cores, beside the
same rows in one call of the answerer, as `predict` makes it. Timed from the first request to the
last answer, with models loaded and connections kept; the first round of each is not counted.

With the default graph's typst-003, whose 32 answers take less than a tenth of a second, and with a
model as large as SmolLM2-135M, where HTTP and the client are a small part of the work. What they
take of the first is measured alone too: the same requests to a server that answers without a model,
and the same server asked over bare sockets, by a client that costs next to nothing, as if it ran on
another machine."""

import json
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bench import predict, pretrained
from bench.turns import Work, Workload
from stages.records import Row, read_rows
from stages.serving.runs import LoadedRuns, TrainedRun

AT_ONCE = 32
ROUNDS = {"demo": 30, "large": 3, "none": 30}
"""Of a model: the default graph's, one as large as SmolLM2-135M, and none."""
DEMO = "typst-003"
TOGETHER = "answered in one call"

Ask = Callable[[Sequence[str]], list[str]]


@dataclass(frozen=True)
class Untuned(TrainedRun):
    """A base that answers without an adapter."""

    @property
    def folder(self) -> Path:
        return Path(self.base)


class NoModel(LoadedRuns):
    """Answers a text with itself."""

    def answerer(self, run: TrainedRun) -> Any:
        return self

    def asked_with(self, settings: object) -> "NoModel":
        return self

    def respond(self, rows: Sequence[Row], reader: object) -> list[str]:
        return [row["source"] for row in rows]


def run_of(folder: Path, model: str) -> TrainedRun:
    from stages.params import load_params
    from stages.serving.runs import trained_run

    demo = trained_run(load_params(), DEMO)
    if model != "large":
        return demo
    return Untuned("large", "large", demo.task, str(folder / "base"), predict.options(1024))


def questions(folder: Path, model: str) -> list[str]:
    if model == "large":
        return [prompt[-1]["content"] for prompt in predict.prompts(folder)][:AT_ONCE]
    return [row["source"] for row in read_rows(Path(f"data/prepared/typst/test/{DEMO}.jsonl"))][
        :AT_ONCE
    ]


def make_demo(folder: Path) -> None:
    (folder / "answers.json").unlink(missing_ok=True)


def timed(folder: Path, model: str, answer: Callable[[], list[str]]) -> Work:
    work, answers = Work(), answer()
    for _ in range(ROUNDS[model]):
        with work.timed():
            answers = answer()
    if model != "none":
        predict.report(work, folder, answers)
    work.done = ROUNDS[model] * len(answers)
    return work


def in_one_call(folder: Path, model: str) -> Work:
    run = run_of(folder, model)
    answerer, rows = run.load(), [run.question(text) for text in questions(folder, model)]
    return timed(folder, model, lambda: answerer.respond(rows))


def served(folder: Path, model: str, client: Callable[[str, str], Ask]) -> Work:
    command = [sys.executable, "-m", "bench.serving", str(folder), model]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        address = server.stdout.readline().partition(" at ")[2].split()[0]
        ask = client(address, run_of(folder, model).name)
        work = timed(folder, model, partial(ask, questions(folder, model)))
        server.terminate()
    return work


def by_openai(address: str, run: str) -> Ask:
    import openai

    client = openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)
    pool = ThreadPoolExecutor(AT_ONCE)

    def ask(text: str) -> str:
        said = [{"role": "user", "content": text}]
        made = client.chat.completions.create(model=run, messages=said)  # type: ignore
        return str(made.choices[0].message.content)

    return lambda texts: list(pool.map(ask, texts))


def by_sockets(address: str, run: str) -> Ask:
    host, port = address.removeprefix("http://").split(":")
    sockets = [socket.create_connection((host, int(port))) for _ in range(AT_ONCE)]

    def sent(text: str) -> bytes:
        body = json.dumps({"model": run, "messages": [{"role": "user", "content": text}]}).encode()
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json"
            f"\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    def received(connection: socket.socket) -> str:
        said = b""
        while not said.endswith(b"}}"):  # as a record with its usage ends
            said += connection.recv(2**16)
        record = json.loads(said.partition(b"\r\n\r\n")[2])
        return str(record["choices"][0]["message"]["content"])

    def ask(texts: Sequence[str]) -> list[str]:
        for connection, text in zip(sockets, texts, strict=True):
            connection.sendall(sent(text))
        return [received(connection) for connection in sockets]

    return ask


def serve(folder: Path, model: str) -> None:
    """As the command does, for a run that may be in no params.yaml."""
    import uvicorn

    from stages.commands.serve import configured, greeting, hosts_at, listening
    from stages.serving.app import Limits, application
    from stages.serving.batcher import Batcher

    run = run_of(folder, model)
    with listening("127.0.0.1", 0) as listener:
        batcher = Batcher(NoModel() if model == "none" else LoadedRuns(), 256, [run])
        batcher.ready()
        app = application([run], batcher, Limits(2**20, 600), hosts_at(listener))
        print(greeting(listener, [run.name]), flush=True)
        uvicorn.Server(configured(app)).run(sockets=[listener])


WORKLOADS = {
    "serve": Workload(
        f"32 requests at once to {DEMO}",
        "rows",
        make_demo,
        {
            "served, 32 at once": partial(served, model="demo", client=by_openai),
            TOGETHER: partial(in_one_call, model="demo"),
            "served without a model": partial(served, model="none", client=by_openai),
        },
        {TOGETHER: 0.8},
    ),
    "serve-sockets": Workload(
        f"32 requests at once to {DEMO} over bare sockets",
        "rows",
        make_demo,
        {
            "served, 32 at once": partial(served, model="demo", client=by_sockets),
            TOGETHER: partial(in_one_call, model="demo"),
        },
        {TOGETHER: 0.8},
    ),
    "serve-pretrained": Workload(
        "32 requests at once to a model as large as SmolLM2-135M",
        "rows",
        pretrained.make,
        {
            "served, 32 at once": partial(served, model="large", client=by_openai),
            TOGETHER: partial(in_one_call, model="large"),
        },
        {TOGETHER: 0.8},
    ),
}

if __name__ == "__main__":
    serve(Path(sys.argv[1]), sys.argv[2])
