"""serve: trained runs in a local page, and by OpenAI's protocol."""

import ipaddress
import signal
import socket
from typing import Annotated

import typer
import uvicorn

from stages.errors import UserError
from stages.params import load_params
from stages.serving.app import Limits, application
from stages.serving.batcher import Batcher
from stages.serving.runs import LoadedRuns, trained_run

GRACE_SECONDS = 3  # for answers that are being written when the server is ended
# Longer than clients keep an idle connection (httpx: 5 s, uvicorn's own default too): else both
# close it at once, and a request that is sent in that instant is reset.
KEPT_SECONDS = 75


def serve(
    runs: Annotated[list[str], typer.Argument(help="trained runs of params.yaml, of any tasks")],
    host: Annotated[
        str, typer.Option(help="the address to listen at; the default is for this machine alone")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one")] = 8000,
    max_request_bytes: Annotated[int, typer.Option(min=1, help="of a request's body")] = 2**20,
    request_seconds: Annotated[
        float,
        typer.Option(min=0.001, help="the longest that a request may take, its wait included"),
    ] = 300,
    max_waiting: Annotated[
        int, typer.Option(min=1, help="requests that may wait; a further one is told to come later")
    ] = 256,
) -> None:
    """Answer at an address of this machine: in a page to try runs by hand, alone or side by side,
    and to programs that speak OpenAI's protocol (/v1/models, /v1/chat/completions,
    /v1/completions, whole or streamed).

    Requests that wait are answered together. A message that stands alone is asked as `apply` asks
    it; a conversation, which has a system's or several turns, is asked as it is. Ctrl-C ends it.

    Examples:

      python -m stages serve typst-003

      python -m stages serve gec-001 gec-002 reward-002 --port 8080
    """
    params = load_params()
    chosen = [trained_run(params, run) for run in dict.fromkeys(runs)]
    with listening(host, port) as listener:
        batcher = Batcher(LoadedRuns(), max_waiting, chosen)
        batcher.ready()
        app = application(
            chosen, batcher, Limits(max_request_bytes, request_seconds), hosts_at(listener)
        )
        typer.echo(greeting(listener, [run.name for run in chosen]))
        # uvicorn ends well by either signal, and then raises it again.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            uvicorn.Server(configured(app)).run(sockets=[listener])
        except KeyboardInterrupt:
            pass
        finally:
            batcher.close()


def configured(app: object) -> uvicorn.Config:
    return uvicorn.Config(
        app,  # type: ignore[arg-type]
        loop="asyncio",
        http="h11",
        ws="none",
        lifespan="off",
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEPT_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )


def listening(host: str, port: int) -> socket.socket:
    """A socket at which callers wait from now on. Raises UserError for an address that cannot be
    had.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror as error:
        raise UserError(f"--host {host}: no address ({error.strerror}); correct it") from None
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen()  # else another server could take the address until models are loaded
    except OSError as error:
        listener.close()
        raise UserError(
            f"--port {port}: {host} cannot be listened at there ({error.strerror}); end what has "
            "it, or give another port (0 takes a free one)"
        ) from None
    return listener


def hosts_at(listener: socket.socket) -> list[str]:
    """What the Host of a request may be: on this machine's own address no name but its own, so that
    no page of elsewhere comes here by a name that leads here (DNS rebinding).
    """
    address = listener.getsockname()[0]
    own = ["localhost", "127.0.0.1", "::1", "[::1]", address]
    return own if ipaddress.ip_address(address).is_loopback else ["*"]


def greeting(listener: socket.socket, runs: list[str]) -> str:
    host, port = listener.getsockname()[:2]
    address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    body = f'{{"model": "{runs[0]}", "messages": [{{"role": "user", "content": "…"}}]}}'
    return "\n".join(
        (
            f"{', '.join(runs)} at {address} (a page) and {address}/v1 (OpenAI's protocol); Ctrl-C "
            "ends it",
            *(
                []
                if ipaddress.ip_address(host).is_loopback
                else ["who reaches this address can ask; nothing asks for a password"]
            ),
            f"curl {address}/v1/chat/completions -H 'Content-Type: application/json' -d '{body}'",
        )
    )
