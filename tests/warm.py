"""DVC, the project's stages and its commands begin in a fork of a process that has imported what
they import, PyTorch, transformers and PEFT among it: at nano size these imports are six of the
eight seconds of a training, and two thirds of what DVC does for a stage; the tests begin a
thousand.

The fork imports the project's own code, from the folder that it runs in, and has its caller's
environment, arguments and files. What must be a process of its own from the start (one that is
killed, or compared with another for bytes that an own hash seed could change) is run by
`conftest.run(…, cold=True)`."""

import gc
import json
import logging
import os
import runpy
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

from stages.backends.shared import process

LOADED = (
    "accelerate", "peft", "torch", "transformers.trainer", *(
        f"transformers.models.{name}" for name in (
            "auto.modeling_auto", "auto.tokenization_auto", "llama.modeling_llama", "qwen3.modeling_qwen3",
        )
    ),
    "dvc.cli.parser", "dvc.data_cloud", "dvc.repo", "dvc.repo.reproduce", "dvc.repo.status", "dvc.stage.run",
    "pydantic", "rapidfuzz.distance", "rensa", "rich.progress", "rich.table", "ruamel.yaml", "typer",
)  # fmt: skip


def begin(folder: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start the process that forks, with its socket in `folder` and a `python` and a `dvc` that ask
    it, for the caller's PATH. It ends with the process that began it.

    environment: what libraries read while they are imported."""
    python = folder / "python"
    python.write_text(f"#!{sys.executable} -SE\n{CLIENT}", encoding="utf-8")
    python.chmod(0o755)
    (folder / "dvc").symlink_to(python)
    address = folder / "socket"
    # PyTorch reads while it is imported which instructions it may use.
    return subprocess.Popen(
        [sys.executable, "-m", "tests.warm", str(address)],
        cwd=Path(__file__).parents[1],
        env=environment | process.AVX2,
    )


CLIENT = f"""import json, os, signal, socket, sys, time
python, (folder, name), arguments = {sys.executable!r}, os.path.split(__file__), sys.argv[1:]
if name == "dvc":
    arguments = ["-m", "dvc", *arguments]
module = arguments[1] if arguments[:1] == ["-m"] and arguments[1:] else ""
if module not in ("dvc", "stages", "tests.loaded", "tests.spread") and not module.startswith("stages."):
    os.execv(python, [python, *arguments])
address = os.path.join(folder, "socket")
while not os.path.exists(address):
    time.sleep(0.05)
asked = {{"folder": os.getcwd(), "environment": dict(os.environ), "arguments": arguments[1:],
    "python": os.path.join(folder, "python")}}
with socket.socket(socket.AF_UNIX) as server:
    server.connect(address)
    socket.send_fds(server, [json.dumps(asked).encode() + b"\\n"], [0, 1, 2])
    said = server.makefile()
    child = int(said.readline())
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: os.kill(child, number))
    sys.exit(int(said.readline() or 1))
"""


def serve(address: str) -> NoReturn:
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    for name in LOADED:
        __import__(name)
    gc.freeze()  # a fork copies what its garbage collection looks at
    parent = os.getppid()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{address}.begun")
        server.listen()
        Path(f"{address}.begun").rename(address)
        server.settimeout(1)
        while os.getppid() == parent:
            try:
                caller, _ = server.accept()
            except TimeoutError:
                continue
            if not os.fork():
                server.close()
                answer(caller)
            caller.close()
    raise SystemExit


def answer(caller: socket.socket) -> NoReturn:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    caller.setblocking(True)
    asked, files, _, _ = socket.recv_fds(caller, 2**16, 3)
    while not asked.endswith(b"\n"):
        asked += caller.recv(2**16)
    request = json.loads(asked)
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    module, *arguments = request["arguments"]
    sys.argv = [module.replace(".", "/") + ".py", *arguments]
    sys.path[:1] = [request["folder"], *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    sys.executable = request["python"]  # what this one begins is warm too
    for name in [name for name in sys.modules if name.partition(".")[0] in ("stages", "tests")]:
        del sys.modules[name]
    caller.send(f"{os.getpid()}\n".encode())
    code = 1
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        caller.send(f"{code}\n".encode())
        os._exit(code)


if __name__ == "__main__":
    serve(sys.argv[1])
