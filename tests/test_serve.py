"""Runs asked by OpenAI's own client, in a server that no request ends."""

import json
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import httpx
import openai
import pytest
import torch
import uvicorn

from stages.backends.pytorch import backend
from stages.backends.pytorch.models import share_tensors
from stages.backends.shared import answering, process
from stages.commands import serve
from stages.errors import UserError
from stages.params import load_params
from stages.serving.app import Limits, application
from stages.serving.batcher import Batcher, Busy, Question
from stages.serving.runs import LoadedRuns, overridden, trained_run
from tests.conftest import ENVIRONMENT, run

RUNS = ("typst-003", "gec-002", "lm-001", "reward-002")
SOLUTION = '{"problem": "Compute 4 + 5 - 3.", "steps": ["4 + 5 = 9.", "9 - 3 = 7."]}'


@pytest.fixture(scope="module")
def address(whole_graph):
    """Where four nano runs are served, with limits that tests can reach."""
    command = [sys.executable, "-m", "stages", "serve", *RUNS, "--port", "0", "--max-request-bytes", "20000"]  # fmt: skip
    with subprocess.Popen(
        command, cwd=whole_graph, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        told = server.stdout.readline() + server.stdout.readline()
        assert ", ".join(RUNS) in told
        yield told.partition(" at ")[2].split()[0]
        server.send_signal(signal.SIGTERM)
        assert server.wait(20) == 0


@pytest.fixture
def client(address):
    with openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as made:
        yield made


def said(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def test_every_run_is_a_model(client):
    assert [model.id for model in client.models.list()] == [*RUNS]
    assert client.models.retrieve("lm-001").id == "lm-001"


def test_a_question_is_answered_as_apply_answers_it_whole_and_in_pieces(client, whole_graph):
    asked = "\\frac{a}{b}"
    whole = client.chat.completions.create(model="typst-003", messages=said(asked))
    applied = run(whole_graph, "python", "-m", "stages", "apply", "typst-003", "--text", asked)
    assert whole.choices[0].message.content == applied.stdout.removesuffix("\n")
    pieces = [*client.chat.completions.create(model="typst-003", messages=said(asked), stream=True, stream_options={"include_usage": True})]  # fmt: skip
    text = "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)
    assert text == whole.choices[0].message.content
    assert pieces[-1].usage == whole.usage
    assert whole.usage.completion_tokens <= 4
    assert whole.choices[0].finish_reason in ("stop", "length")


def test_texts_are_continued_and_end_before_a_stop(client):
    def continued(**options):
        made = client.completions.create(model="lm-001", prompt="The old teacher", **options)
        return made.choices[0].text

    text = continued(max_tokens=20)
    assert len(text) > 3
    assert continued(max_tokens=20, stop=[text[2]]) == text[: text.index(text[2])]
    sampled = {continued(max_tokens=8, temperature=1.5, seed=seed) for seed in (1, 1, 2)}
    assert len(sampled) == 2


def test_steps_are_scored_and_conversations_asked_as_they_are(client):
    scores = client.chat.completions.create(model="reward-002", messages=said(SOLUTION))
    assert [0 <= float(score) <= 1 for score in scores.choices[0].message.content.split()] == [True] * 2  # fmt: skip
    turns = [*said("a"), {"role": "assistant", "content": "b"}, *said("c")]
    assert client.chat.completions.create(model="gec-002", messages=turns).usage.prompt_tokens > 5


def test_many_at_once_are_answered_as_alone_and_in_few_batches(address, whole_graph, monkeypatch):
    texts = [f"私は{'本' * size}が読みます。" for size in range(1, 33)]
    with openai.OpenAI(base_url=f"{address}/v1", api_key="none") as client, ThreadPoolExecutor(32) as pool:  # fmt: skip
        answers = [*pool.map(lambda text: client.chat.completions.create(model="gec-002", messages=said(text)), texts)]  # fmt: skip
    arguments = [part for text in texts for part in ("--text", text)]
    applied = run(whole_graph, "python", "-m", "stages", "apply", "gec-002", *arguments)
    assert "".join(f"{each.choices[0].message.content}\n" for each in answers) == applied.stdout

    monkeypatch.chdir(whole_graph)
    monkeypatch.setattr(process, "set_up", lambda exact: None)  # of this process, for other tests
    chosen = trained_run(load_params(), "gec-002")
    loaded, sizes, ends = LoadedRuns(), list[int](), list[object]()
    respond = type(loaded.answerer(chosen)).respond

    def counted(self, rows, reader=None):
        sizes.append(len(rows))
        return respond(self, rows, reader)

    monkeypatch.setattr(type(loaded.answerer(chosen)), "respond", counted)
    batcher = Batcher(loaded, 100)
    for text in texts:
        batcher.put(Question(chosen, chosen.question(text), chosen.settings, ends.append))
    while len(ends) < len(texts):
        time.sleep(0.01)
    batcher.close()
    assert len(sizes) <= 3


def test_runs_on_one_base_share_what_no_adapter_changed_and_answer_as_alone(whole_graph, monkeypatch):  # fmt: skip
    monkeypatch.chdir(whole_graph)
    monkeypatch.setattr(process, "set_up", lambda exact: None)  # of this process, for other tests
    params, together = load_params(), LoadedRuns()
    runs = [trained_run(params, name) for name in ("gec-001", "gec-002", "typst-003", "lm-001")]
    texts = ["私は本が読みます。", "水が飲む。"]
    for run_ in runs:
        together.answerer(run_)
    for run_ in runs:
        rows = [run_.question(text) for text in texts]
        assert together.answerer(run_).respond(rows) == LoadedRuns().answerer(run_).respond(rows)
    tensors = [
        {
            name: tensor.data_ptr()
            for name, tensor in together.answerer(run_).model.named_parameters()
        }
        for run_ in runs
    ]
    embedding, projection = "model.embed_tokens.weight", "model.layers.0.self_attn.q_proj.weight"
    # lm-001 is the base of the others, and has another base itself.
    assert [len({of[name] for of in tensors[:3]}) for name in (embedding, projection)] == [1, 3]


def test_tensors_are_shared_where_they_are_the_same_to_the_last_bit():
    made = [torch.nn.Linear(2, 2) for _ in range(2)]
    for model in made:
        model.weight.data = torch.tensor([[0.0, 1.0], [torch.nan, 3.0]])
        model.bias.data = torch.zeros(2)
    made[1].bias.data = -made[0].bias.data
    share_tensors(*made)
    assert made[0].weight.data_ptr() == made[1].weight.data_ptr()
    assert made[0].bias.data_ptr() != made[1].bias.data_ptr()  # 0.0 is not -0.0


@pytest.mark.parametrize(
    ("options", "status", "says"),
    [
        ({"model": "typst-009"}, 404, "no model 'typst-009' here; there are: typst-003, gec-002, lm-001, reward-002"),
        ({"model": "reward-002"}, 400, "messages: "),
        ({"temperature": 3}, 400, "temperature: Input should be less than or equal to 2"),
        ({"n": 2}, 400, "n: 2 is not offered here; leave it out, or send 1"),
        ({"messages": []}, 400, "messages: List should have at least 1 item"),
        ({"messages": [{"role": "x", "content": "a"}]}, 400, "messages.0.role: "),
        ({"messages": [{"role": "assistant", "content": "a"}]}, 400, "messages: the last one is answered; let it be a user's"),
        ({"max_tokens": 10**9}, 400, "max_tokens: at most "),
        ({"stop": ["a"] * 5}, 400, "stop: give one to four texts that are not empty"),
        ({"messages": [{"role": "user", "content": "a" * 30_000}]}, 413, "the request has more than 20,000 bytes; send less, or start the server with a larger --max-request-bytes"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_in_the_protocols_form(client, options, status, says):
    asked = {"model": "typst-003", "messages": said("a")} | options
    with pytest.raises(openai.APIStatusError) as error:
        client.chat.completions.create(**asked)
    assert (error.value.status_code, error.value.body["message"][: len(says)]) == (status, says)


def test_a_reward_run_is_not_asked_in_conversation_nor_a_text_in_many(client):
    with pytest.raises(openai.BadRequestError, match="reward-002 scores the steps of one solution; send it as the only one"):  # fmt: skip
        client.chat.completions.create(model="reward-002", messages=[{"role": "system", "content": "s"}, *said("a")])  # fmt: skip
    with pytest.raises(openai.BadRequestError, match="prompt: send one text a request; many at once are batched"):  # fmt: skip
        client.completions.create(model="lm-001", prompt=["a", "b"])


@pytest.mark.parametrize(
    ("send", "status"),
    [
        ({"content": b"{", "headers": {"Content-Type": "application/json"}}, 400),
        ({"content": b"\xff\xfe", "headers": {"Content-Type": "application/json"}}, 400),
        ({"json": [1]}, 400),
        ({"content": b"{}", "headers": {"Content-Type": "text/plain"}}, 415),
        ({"json": {}, "headers": {"Host": "evil.example"}}, 400),
    ],
)
def test_what_is_malformed_or_from_elsewhere_is_refused_and_ends_nothing(address, send, status):
    assert httpx.post(f"{address}/v1/chat/completions", **send).status_code == status
    assert httpx.get(f"{address}/nowhere").status_code == 404
    assert httpx.get(f"{address}/v1/models").status_code == 200


def test_who_goes_away_leaves_no_question_behind(address, client):
    body = json.dumps({"model": "lm-001", "prompt": "The", "max_tokens": 100, "stream": True})
    host, port = address.removeprefix("http://").split(":")
    for read in (0, 200):
        with socket.create_connection((host, int(port))) as gone:
            head = f"POST /v1/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"  # fmt: skip
            gone.sendall((head + body).encode())
            gone.recv(read) if read else None
    assert client.completions.create(model="lm-001", prompt="A", max_tokens=2).choices[0].text


def test_the_page_has_all_it_needs(address):
    page = httpx.get(address)
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "Tsugiki: try a run by hand" in page.text
    assert "http://" not in page.text
    assert "https://" not in page.text


def test_more_than_may_wait_are_told_to_come_later(whole_graph, monkeypatch):
    monkeypatch.chdir(whole_graph)
    chosen = trained_run(load_params(), "gec-002")
    batcher = Batcher(LoadedRuns(), 0)
    with pytest.raises(Busy):
        batcher.put(Question(chosen, chosen.question("水"), chosen.settings, print))
    batcher.close()


def test_what_cannot_be_served_says_why(inside, whole_graph, monkeypatch):
    with serve.listening("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=rf"--port {port}: 127.0.0.1 cannot be listened at there \(.*\); end what has it, or give another port \(0 takes a free one\)"):  # fmt: skip
            serve.listening("127.0.0.1", port)
    with pytest.raises(UserError, match=r"--host no.such.host.invalid: no address \(.*\); correct it"):  # fmt: skip
        serve.listening("no.such.host.invalid", 0)
    Path("params.yaml").write_bytes((whole_graph / "params.yaml").read_bytes())
    for folder in ("data", "models/lm-001"):
        (inside / folder).mkdir(parents=True)
    with pytest.raises(UserError, match="models/gec-002: not trained yet; run `dvc repro train@gec-002`"):  # fmt: skip
        serve.serve(["gec-002"])
    assert [path.name for path in Path("models").iterdir()] == ["lm-001"]


def test_a_run_that_is_half_written_is_not_served(clone, monkeypatch):
    """As one that is being trained or fetched at the moment."""
    monkeypatch.chdir(clone)
    Path("models/gec-002/adapter_model.safetensors").unlink()
    monkeypatch.setattr(process, "set_up", lambda exact: None)  # of this process, for other tests
    with pytest.raises(UserError, match=r"models/gec-002/adapter_model.safetensors: no adapter that can be read: .*; fetch it again"):  # fmt: skip
        serve.serve(["gec-001", "gec-002"], port=0, host="127.0.0.1")


class Slow:
    """In place of all models: writes an "a" each hundredth of a second until it is stopped, and notes how many it wrote."""

    def __init__(self):
        self.written, self.begun = [], threading.Event()

    def answerer(self, _):
        return self

    def asked_with(self, _):
        return self

    def respond(self, rows, reader):
        count = 1
        self.begun.set()
        while reader.token(0, partial(str, "a" * count)) and count < 10_000:
            time.sleep(0.01)
            count += 1
        self.written.append(count)
        return ["a" * count for _ in rows]


@pytest.fixture
def slow(whole_graph, monkeypatch):
    """(its model, a client), where one request may wait and none may take more than a second."""
    monkeypatch.chdir(whole_graph)
    chosen, model = trained_run(load_params(), "lm-001"), Slow()
    batcher = Batcher(model, 1)
    listener = serve.listening("127.0.0.1", 0)
    server = uvicorn.Server(serve.configured(application([chosen], batcher, Limits(20_000, 1), ["127.0.0.1"])))  # fmt: skip
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    address = "http://{}:{}".format(*listener.getsockname())
    thread.start()
    with openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client:
        yield model, client
    server.should_exit = True
    thread.join()
    batcher.close()


def asked_of(client, **options):
    return client.completions.create(model="lm-001", prompt="a", **options)


class Unlike(Slow):
    """The answer of its first row ends at once, that of its second when it is stopped."""

    def respond(self, rows, reader):
        reader.end(0, "first")
        while not self.begun.wait(0.01):
            reader.token(1, partial(str, "a"))
        return ["first", "second"]


def test_an_answer_that_ends_before_others_of_its_batch_is_told_before_them(whole_graph, monkeypatch):  # fmt: skip
    monkeypatch.chdir(whole_graph)
    chosen, model, told = trained_run(load_params(), "gec-002"), Unlike(), queue.Queue()
    batcher = Batcher(model, 2)
    for number in range(2):
        batcher.put(Question(chosen, chosen.question("水"), chosen.settings, lambda event, of=number: told.put((of, event.text))))  # fmt: skip
    assert told.get(timeout=10) == (0, "first")
    assert told.empty()
    model.begun.set()
    assert told.get(timeout=10) == (1, "second")
    batcher.close()
    assert told.empty()


def test_a_model_tells_which_rows_end_before_others_with_their_answers(whole_graph, monkeypatch):
    monkeypatch.chdir(whole_graph)
    monkeypatch.setattr(process, "set_up", lambda exact: None)  # of this process, for other tests
    chosen = trained_run(load_params(), "gec-002")
    sampled = overridden(chosen.settings, 1, temperature=2.0, max_new_tokens=8)
    answerer = LoadedRuns().answerer(chosen).asked_with(sampled)
    rows = [chosen.question(f"私は{'本' * size}が読みます。") for size in range(1, 17)]
    said = Counter[int]()
    prompts = [answerer._question(row) for row in rows]
    answerer.continued(prompts, lambda _: None, lambda _, new: not said.update([new]))
    for module in (answering, backend):  # so that answers end, which those of a nano model do not
        monkeypatch.setattr(module, "end_of_turn", lambda _: said.most_common()[0][0])
    tokens, told = Counter[int](), dict[int, str]()
    reader = SimpleNamespace(
        prompt=lambda *_: None,
        token=lambda row, _: not tokens.update([row]),
        end=told.__setitem__,
    )
    answers = answerer.respond(rows, reader)
    assert told == {row: text for row, text in enumerate(answers) if tokens[row] < 8}
    assert 1 < len(told) < len(rows)
    assert answers == answerer.respond(rows)


def test_a_batch_begins_sooner_where_as_many_wait_as_are_likely(whole_graph, monkeypatch):
    monkeypatch.chdir(whole_graph)
    chosen, model, told = trained_run(load_params(), "gec-002"), Unlike(), queue.Queue()
    model.begun.set()
    monkeypatch.setattr("stages.serving.batcher.GATHERING_SECONDS", 60)
    batcher = Batcher(model, 2)
    batcher.likely, batcher.seconds_before = 2, 200.0  # of which a quarter is waited for a second
    put = partial(Question, chosen, chosen.question("水"), chosen.settings, told.put)
    batcher.put(put())
    time.sleep(0.3)
    assert told.empty()
    batcher.put(put())
    assert {told.get(timeout=20).text for _ in range(2)} == {"first", "second"}
    batcher.close()
    assert batcher.likely == 2


def test_one_small_batch_does_not_make_the_next_one_likely_to_be_small(whole_graph, monkeypatch):
    monkeypatch.chdir(whole_graph)
    chosen, model, told = trained_run(load_params(), "gec-002"), Unlike(), queue.Queue()
    monkeypatch.setattr(model, "respond", lambda rows, reader: ["an answer"] * len(rows))
    batcher = Batcher(model, 32)
    batcher.likely = 32
    for likely in (24, 18):
        batcher.put(Question(chosen, chosen.question("水"), chosen.settings, told.put))
        told.get(timeout=10)
        end = time.monotonic() + 10  # what is likely is noted after the answers are told
        while batcher.likely != likely and time.monotonic() < end:
            time.sleep(0.001)
        assert batcher.likely == likely
    batcher.close()


def test_what_takes_too_long_ends_with_a_sentence_whole_and_streamed(slow):
    model, client = slow
    with pytest.raises(openai.APIStatusError, match="not answered in the time that a request may take") as error:  # fmt: skip
        asked_of(client)
    assert error.value.status_code == 504
    pieces = []
    with pytest.raises(openai.APIError, match="not answered in the time that a request may take"):
        pieces.extend(piece.choices[0].text for piece in asked_of(client, stream=True))
    assert len(pieces) > 5
    assert set("".join(pieces)) == {"a"}
    assert max(model.written) < 300


def test_who_goes_away_in_a_stream_ends_the_answer_and_frees_the_place(slow):
    model, client = slow
    stream = asked_of(client, stream=True)
    next(iter(stream))
    stream.close()
    end = time.monotonic() + 0.8  # before the time of the request is over
    while not model.written and time.monotonic() < end:
        time.sleep(0.01)
    assert len(model.written) == 1


def test_one_more_than_may_wait_is_told_to_come_later(slow):
    model, client = slow
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(lambda: [*asked_of(client, stream=True)])
        model.begun.wait(5)
        second = pool.submit(lambda: [*asked_of(client, stream=True)])
        time.sleep(0.3)
        with pytest.raises(openai.APIStatusError, match="1 requests wait already; send this one again later") as error:  # fmt: skip
            asked_of(client)
        assert error.value.status_code == 503
        assert error.value.response.headers["retry-after"] == "1"
        assert all(isinstance(each.exception(10), openai.APIError) for each in (first, second))


def test_a_body_that_does_not_come_is_waited_for_no_longer_than_a_request_may_take(slow):
    _, client = slow
    with socket.create_connection((client.base_url.host, client.base_url.port)) as caller:
        caller.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{")  # fmt: skip
        caller.settimeout(5)
        assert b"408" in caller.recv(4096).partition(b"\r\n")[0]
