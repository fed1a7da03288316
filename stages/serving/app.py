"""The server: runs as models of OpenAI's protocol, and a page to try them. No request ends it."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from stages.errors import UserError
from stages.serving.batcher import Answered, Batcher, Busy, Event, Question
from stages.serving.protocol import Asked, Chat, Completion, Fault, Writer, model_record, parsed
from stages.serving.runs import TrainedRun

PAGE = Path(__file__).with_name("page.html")
PAGE_HEADERS = {
    # Its own script and style, and nothing but this server to ask.
    "Content-Security-Policy": "default-src 'none'; script-src 'unsafe-inline'; style-src "
    "'unsafe-inline'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
PATHS = "GET /, GET /v1/models, POST /v1/chat/completions and POST /v1/completions"
JSON = "application/json"
RETRY_SECONDS = "1"
T = TypeVar("T")


@dataclass(frozen=True)
class Limits:
    """request_bytes: of a body.   request_seconds: from its beginning to the end of its answer."""

    request_bytes: int
    request_seconds: float


def application(
    runs: Sequence[TrainedRun], batcher: Batcher, limits: Limits, hosts: Sequence[str]
) -> Starlette:
    """hosts: what a request's Host may be; "*" = anything."""
    service = Service({run.name: run for run in runs}, batcher, limits)
    return Starlette(
        routes=[
            Route("/", page),
            Route("/v1/models", service.models),
            Route("/v1/models/{name:path}", service.model),
            Route("/v1/chat/completions", service.chat, methods=["POST"]),
            Route("/v1/completions", service.completion, methods=["POST"]),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False)],
        exception_handlers={
            Fault: faulty,
            HTTPException: not_routed,
            ClientDisconnect: abandoned,
            Exception: broken,
        },
    )


async def page(_: Request) -> Response:
    return HTMLResponse(PAGE.read_text(encoding="utf-8"), headers=PAGE_HEADERS)


class Service:
    """The routes of the protocol."""

    def __init__(self, runs: dict[str, TrainedRun], batcher: Batcher, limits: Limits) -> None:
        self.runs, self.batcher, self.limits = runs, batcher, limits

    async def models(self, _: Request) -> Response:
        records = [model_record(run) for run in self.runs.values()]
        return JSONResponse({"object": "list", "data": records})

    async def model(self, request: Request) -> Response:
        return JSONResponse(model_record(self._run(request.path_params["name"])))

    async def chat(self, request: Request) -> Response:
        return await self._answered(request, Chat)

    async def completion(self, request: Request) -> Response:
        return await self._answered(request, Completion)

    def _run(self, name: str) -> TrainedRun:
        if name not in self.runs:
            there = ", ".join(self.runs)
            raise Fault(
                404, f"no model {name!r} here; there are: {there}", "model", "model_not_found"
            )
        return self.runs[name]

    async def _answered(self, request: Request, kind: type[Chat] | type[Completion]) -> Response:
        latest = asyncio.get_running_loop().time() + self.limits.request_seconds
        try:
            async with asyncio.timeout_at(latest):
                asked = parsed(kind, await self._body(request))
        except TimeoutError:
            raise Fault(408, "the request did not come whole in time; send it again") from None
        run = self._run(asked.model)
        events: asyncio.Queue[Event] = asyncio.Queue()
        question = Question(
            run,
            asked.row(run),
            asked.settings(run),
            tell=into(events),
            stops=asked.stops(),
            in_pieces=bool(asked.stream),
            seeded=asked.seed is not None,
        )
        try:
            self.batcher.put(question)
        except Busy:
            raise Fault(
                503,
                f"{self.batcher.most_waiting} requests wait already; send this one again later",
                code="overloaded",
            ) from None
        # Also of a stream the first event is waited for: a question that fails has an error's
        # status.
        try:
            event = await unless_gone(request, next_event(events, latest))
        except BaseException:
            self.batcher.withdraw(question)
            raise
        writer = Writer.of(asked)
        if isinstance(event, Answered) and not asked.stream:
            return JSONResponse(writer.whole(event))
        return StreamingResponse(
            self._stream(writer, asked, question, event, events, latest),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store"},
        )

    async def _stream(
        self,
        writer: Writer,
        asked: Asked,
        question: Question,
        event: str | Answered,
        events: "asyncio.Queue[Event]",
        latest: float,
    ) -> AsyncIterator[str]:
        try:
            if writer.chat:
                yield sent(writer.first())
            while isinstance(event, str):
                yield sent(writer.piece(event))
                event = await next_event(events, latest)
            options = asked.stream_options
            for record in writer.last(event, with_usage=bool(options and options.include_usage)):
                yield sent(record)
            yield "data: [DONE]\n\n"
        except Fault as fault:
            yield sent(fault.record())
        finally:
            self.batcher.withdraw(question)

    async def _body(self, request: Request) -> bytes:
        """Raises Fault for what is no JSON by its header, which a page of another origin cannot
        send unasked, and for a body that is too large.
        """
        if request.headers.get("content-type", "").partition(";")[0].strip() != JSON:
            raise Fault(415, f"send JSON, with the header Content-Type: {JSON}")
        body, most = bytearray(), self.limits.request_bytes
        async for chunk in request.stream():
            body += chunk
            if len(body) > most:
                raise Fault(
                    413,
                    f"the request has more than {most:,} bytes; send less, or start the server "
                    "with a larger --max-request-bytes",
                )
        return bytes(body)


async def next_event(events: "asyncio.Queue[Event]", latest: float) -> str | Answered:
    """Raises Fault where there is no answer.   latest: on the loop's clock."""
    try:
        async with asyncio.timeout_at(latest):
            event = await events.get()
    except TimeoutError:
        raise Fault(
            504,
            "not answered in the time that a request may take; ask for fewer max_tokens, or start "
            "the server with more --request-seconds",
        ) from None
    if isinstance(event, UserError):
        raise Fault(400, str(event)) from None
    if isinstance(event, Exception):
        raise Fault(500, "the model failed; the output of the server says why")
    return event


async def unless_gone(request: Request, awaited: Coroutine[Any, Any, T]) -> T:
    """What it returns. Raises ClientDisconnect where the client goes away before."""
    answer, gone = asyncio.create_task(awaited), asyncio.create_task(disconnected(request))
    try:
        await asyncio.wait((answer, gone), return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise ClientDisconnect
        return answer.result()
    finally:
        answer.cancel()
        gone.cancel()


async def disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def into(events: "asyncio.Queue[Event]") -> Callable[[Event], None]:
    """Puts events of another thread into a queue of the running loop."""
    loop = asyncio.get_running_loop()

    def tell(event: Event) -> None:
        loop.call_soon_threadsafe(events.put_nowait, event)

    return tell


def sent(record: dict[str, Any]) -> str:
    """As an event of a stream."""
    return f"data: {json.dumps(record)}\n\n"


async def faulty(_: Request, fault: Exception) -> Response:
    assert isinstance(fault, Fault)
    headers = {"Retry-After": RETRY_SECONDS} if fault.status == 503 else None
    return JSONResponse(fault.record(), fault.status, headers)


async def not_routed(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = f"{request.method} {request.url.path}: {error.detail}; there are {PATHS}"
    return JSONResponse(
        Fault(error.status_code, message).record(), error.status_code, error.headers
    )


async def abandoned(_: Request, __: Exception) -> Response:
    """Nobody reads it."""
    return Response(status_code=400)


async def broken(_: Request, __: Exception) -> Response:
    message = "the server failed; its output says why"
    return JSONResponse(Fault(500, message).record(), 500)
