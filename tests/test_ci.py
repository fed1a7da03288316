"""CI's files on GitHub and GitLab: what they say is linted, and their shell steps are run."""

import json
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from tests import nano
from tests.conftest import run, warm_environment

ROOT = nano.ROOT
GITHUB = ROOT / ".github/workflows/adapters.yml"
GITLAB = ROOT / ".gitlab-ci.yml"


class Forge(ThreadingHTTPServer):
    """As much of both APIs as posting asks of them.

    comments: {id: {"body", who wrote it}}.   asked: (method, path) of each request."""

    def __init__(self, author: dict) -> None:
        self.author, self.comments, self.asked = author, {}, []
        super().__init__(("127.0.0.1", 0), Answers)
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def __exit__(self, *error):
        self.shutdown()
        super().__exit__(*error)

    def has(self, number: int, body: str, author: dict) -> None:
        self.comments[number] = {"id": number, "body": body, **author}


class Answers(BaseHTTPRequestHandler):
    server: Forge

    def log_message(self, *_):
        pass

    def answer(self, value, status=200):
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def handle_all(self):
        forge, address = self.server, urlsplit(self.path)
        forge.asked.append((self.command, address.path))
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length) or "{}").get("body")
        if "secret" not in (self.headers.get("Authorization") or self.headers.get("PRIVATE-TOKEN")):
            self.answer({"message": "Bad credentials"}, 401)
        elif address.path == "/user":
            self.answer({"username": "bot"})
        elif self.command == "GET":
            page = int(parse_qs(address.query)["page"][0])
            size = int(parse_qs(address.query)["per_page"][0])
            self.answer([*forge.comments.values()][(page - 1) * size : page * size])
        elif self.command == "POST":
            forge.has(len(forge.comments) + 1, body, forge.author)
            self.answer({"id": len(forge.comments)}, 201)
        else:  # PATCH, PUT
            number = int(address.path.rsplit("/", 1)[1])
            forge.comments[number]["body"] = body
            self.answer({"id": number})

    do_GET = do_POST = do_PATCH = do_PUT = handle_all


MERGE_REQUEST = "/projects/7/merge_requests/3/notes"
FORGES = {
    "github": (
        {"user": {"login": "github-actions[bot]"}},
        lambda url: {"GITHUB_TOKEN": "secret", "GITHUB_API_URL": url, "GITHUB_REPOSITORY": "o/r", "PULL_REQUEST": "3"},
        [("GET", "/repos/o/r/issues/3/comments"), ("POST", "/repos/o/r/issues/3/comments"), ("PATCH", "/repos/o/r/issues/comments/1")],
    ),
    "gitlab": (
        {"author": {"username": "bot"}},
        lambda url: {"REPORT_TOKEN": "secret", "CI_API_V4_URL": url, "CI_PROJECT_ID": "7", "CI_MERGE_REQUEST_IID": "3"},
        [("GET", MERGE_REQUEST), ("POST", MERGE_REQUEST), ("PUT", f"{MERGE_REQUEST}/1")],
    ),
}  # fmt: skip


@pytest.fixture(params=FORGES)
def forge(request):
    author, environment, asked = FORGES[request.param]
    with Forge(author) as server:
        server.environment, server.expected = environment(server.url), asked
        yield server


def post(text: str, folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess:
    file = folder / "comment.md"
    file.write_text(text, encoding="utf-8")
    command = [sys.executable, str(ROOT / ".ci/comment.py"), str(file)]
    kept = {"PATH": os.environ["PATH"]}  # nothing of a CI that runs these tests
    return subprocess.run(command, env=kept | environment, capture_output=True, text=True)


def test_a_comment_is_posted_once_and_then_changed(forge, tmp_path):
    assert post("<!-- m -->\nfirst", tmp_path, forge.environment).returncode == 0
    done = post("<!-- m -->\nsecond é", tmp_path, forge.environment)
    assert (done.returncode, done.stdout) == (0, "comment 1 was changed\n")
    assert [each["body"] for each in forge.comments.values()] == ["<!-- m -->\nsecond é"]
    assert set(forge.asked) - {("GET", "/user")} == set(forge.expected)


def test_the_comment_is_found_behind_a_hundred_others(forge, tmp_path):
    for number in range(1, 151):
        forge.has(number, "<!-- m -->" if number == 120 else "x", forge.author)
    assert post("<!-- m -->\nnew", tmp_path, forge.environment).returncode == 0
    assert forge.comments[120]["body"] == "<!-- m -->\nnew"
    assert len(forge.comments) == 150


def test_what_somebody_else_wrote_with_the_mark_stays_theirs(forge, tmp_path):
    stranger = {kind: {"login": "x", "username": "x"} for kind in ("user", "author")}
    forge.has(1, "<!-- m -->\ntheirs", stranger)
    assert post("<!-- m -->\nours", tmp_path, forge.environment).returncode == 0
    assert [each["body"] for each in forge.comments.values()] == ["<!-- m -->\ntheirs", "<!-- m -->\nours"]  # fmt: skip


def test_a_refusal_is_told_and_without_a_token_nothing_is_posted(forge, tmp_path):
    name = next(iter(forge.environment))
    refused = post("a", tmp_path, forge.environment | {name: "wrong"})
    assert refused.returncode == 1
    assert "401 Unauthorized" in refused.stderr
    assert "Bad credentials" in refused.stderr
    forge.asked.clear()
    without = post("a", tmp_path, forge.environment | {name: ""})
    assert (without.returncode, forge.asked) == (0, [])
    assert f"{name} is not set, as on a fork: nothing is posted; the report is in {tmp_path}" in without.stdout  # fmt: skip
    gone = post("a", tmp_path, {key: value.replace(str(forge.server_port), "9") for key, value in forge.environment.items()})  # fmt: skip
    assert gone.returncode == 1
    assert "refused" in gone.stderr


# What the two files say


def steps() -> dict[str, list[dict]]:
    return {name: job["steps"] for name, job in yaml.safe_load(GITHUB.read_text())["jobs"].items()}


def test_actions_are_pinned_and_one_job_alone_may_write():
    workflow = yaml.safe_load(GITHUB.read_text(encoding="utf-8"))
    used = re.findall(r"uses: (.*)", GITHUB.read_text(encoding="utf-8"))
    assert all(re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40} # v[0-9.]+", each) for each in used)
    assert workflow["permissions"] == {}
    allowed = {name: job["permissions"] for name, job in workflow["jobs"].items()}
    assert allowed.pop("comment") == {"contents": "read", "pull-requests": "write"}
    assert set(map(str, allowed.values())) == {"{'contents': 'read'}"}
    assert "secrets." not in re.sub(r"#.*", "", GITHUB.read_text(encoding="utf-8"))
    # What a stranger names, such as a branch, comes in by a variable and never into a shell's line.
    scripts = [step["run"] for job in steps().values() for step in job if "run" in step]
    assert not [script for script in scripts if "${{" in script]


def test_shell_is_without_a_fault(tmp_path):
    blocks = [step["run"] for job in steps().values() for step in job if "run" in step]
    gitlab = yaml.safe_load(GITLAB.read_text(encoding="utf-8"))
    blocks += [line for job in ("check", "report") for line in gitlab[job]["script"]]
    for number, block in enumerate(blocks):
        (tmp_path / f"{number}.sh").write_text(f"#!/bin/bash -e\n{block}\n", encoding="utf-8")
    files = [*tmp_path.glob("*.sh"), *(ROOT / ".ci").glob("r*")]
    run(ROOT, "shellcheck", *map(str, files))


# Their shell steps, in a clone


@pytest.fixture
def branch(clone):
    """A branch of the nano graph that trains gec-002 at another rate on half its rows, ready for CI:
    without the outputs and with main's cache."""
    run(clone, "git", "update-ref", "refs/remotes/origin/main", "HEAD")
    run(clone, "git", "switch", "--quiet", "--create", "change")
    params = (clone / "params.yaml").read_text(encoding="utf-8")
    changed = re.sub(r"(\n    corpus: gec-002\n)", r"\1    learning_rate: 1.0e-1\n", params)
    changed = changed.replace("train_002.tsv}", "train_002.tsv, max_samples: 40}", 1)
    assert "max_samples: 40" in changed
    assert "learning_rate: 1.0e-1" in changed
    (clone / "params.yaml").write_text(changed, encoding="utf-8")
    run(clone, *nano.GIT, "commit", "--quiet", "--all", "--message", "another rate")
    run(clone, "git", "clean", "-fdxq", "--exclude=.dvc/cache")
    (clone / ".venv/bin").mkdir(parents=True)
    for name in ("installed", "installed-dev"):  # `make install` has nothing to do
        (clone / ".venv" / name).touch()
    return clone


def do(folder: Path, script: str, environment: dict[str, str]) -> str:
    """As CI runs a step, without the variables of one that runs these tests. What it says."""
    own = {name: value for name, value in warm_environment().items() if not name.startswith(("CI_", "GITHUB_", "REPORT_"))}  # fmt: skip
    done = subprocess.run(["bash", "-e", "-o", "pipefail", "-c", script], cwd=folder, env=own | environment, capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.timeout(900)
def test_github_trains_what_changed_and_posts_what_became_of_it(branch, tmp_path):
    (tmp_path / "summary").write_text("")
    jobs = steps()
    assert [step["run"] for step in jobs["check"] if "run" in step] == ["make check"]
    install, report = (step["run"] for step in jobs["report"] if "run" in step)
    environment = {"BASE": "origin/main", "GITHUB_STEP_SUMMARY": str(tmp_path / "summary")}
    do(branch, install, environment)
    do(branch, report, environment)
    (posting,) = (step["run"] for step in jobs["comment"] if "run" in step)
    with Forge(FORGES["github"][0]) as forge:
        do(branch, posting, FORGES["github"][1](forge.url) | {"PAGE": "http://p"})
        told = forge.comments[1]["body"]
    assert "| gec-002 | " in told
    assert "gec-002 of <code>origin/main</code>" in told
    assert "changed <code>settings&#46;learning&#95;rate</code>" in told
    assert re.search(r"trained on gec-002 \([0-9]+ rows\): beside gec-002 there 0 new rows, [0-9]+ gone", told)  # fmt: skip
    assert "12 as on <code>origin/main</code>" in told
    assert "This repository names no DVC remote: nothing was pulled." in told
    assert "What came out is not what is committed" in told
    assert told.endswith("[The page with every row](http://p)\n")
    assert (tmp_path / "summary").read_text(encoding="utf-8") in told
    assert (branch / "build/report/index.html").is_file()


def test_the_command_of_the_page_on_pull_requests_runs(branch):
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / "docs/pull-requests.md").read_text(encoding="utf-8"), re.DOTALL)  # fmt: skip
    assert blocks
    run(branch, "dvc", "checkout")
    for block in blocks:
        do(branch, block, {})
    told = (branch / "build/report/comment.md").read_text(encoding="utf-8")
    assert "13 as on <code>main</code>" in told


@pytest.mark.timeout(900)
def test_gitlab_on_a_fork_without_the_remote_tells_what_is_committed(branch):
    """A corpus of one's own lies in a remote that the fork cannot read."""
    run(branch, "dvc", "remote", "add", "--default", "store", "http://127.0.0.1:9/nothing")
    (branch / "data/gec/train_009.tsv.dvc").write_text("outs:\n- md5: d41d8cd98f00b204e9800998ecf8427e\n  size: 0\n  path: train_009.tsv\n")  # fmt: skip
    run(branch, "git", "add", "--force", "data/gec/train_009.tsv.dvc")
    lock = (branch / "dvc.lock").read_bytes()
    base = run(branch, "git", "rev-parse", "main").stdout.strip()
    script = yaml.safe_load(GITLAB.read_text(encoding="utf-8"))["report"]["script"]
    environment = {"CI_MERGE_REQUEST_DIFF_BASE_SHA": base, "CI_MERGE_REQUEST_IID": "3", "CI_API_V4_URL": "http://127.0.0.1:9", "CI_JOB_URL": "http://j"}  # fmt: skip
    said = do(branch, "\n".join(script), environment)
    told = (branch / "build/report/comment.md").read_text(encoding="utf-8")
    assert "REPORT_TOKEN is not set, as on a fork: nothing is posted" in said
    assert "not to be had here, as on a fork, which cannot read the remote: 1. Nothing was trained" in told  # fmt: skip
    assert f"13 as on <code>{base}</code>" in told
    assert (branch / "dvc.lock").read_bytes() == lock
