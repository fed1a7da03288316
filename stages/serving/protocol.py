"""OpenAI's protocol: what a client may ask, what it is answered, and how a mistake is told."""

from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from time import time
from typing import Any, Literal, TypeVar
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stages import tasks
from stages.errors import UserError
from stages.records import Message, Row
from stages.serving.batcher import Answered
from stages.serving.runs import TrainedRun, overridden
from stages.settings import Answering

NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (None, 1),
    "best_of": (None, 1),
    "echo": (None, False),
    "suffix": (None, ""),
    "logprobs": (None, False, 0),
    "top_logprobs": (None, 0),
    "frequency_penalty": (None, 0),
    "presence_penalty": (None, 0),
    "logit_bias": (None, {}),
    "tools": (None, []),
    "functions": (None, []),
    "response_format": (None, {"type": "text"}),
}
"""Options that would change an answer and are not offered, with the values that change nothing."""
LEAST_TEMPERATURE = 1e-3  # below it the likeliest token is all that is left, and logits overflow
SEEDS = 2**32


class Fault(Exception):
    """A mistake of the client, or a state of the server, in the form of OpenAI's errors.

    param: the part of the request that is wrong.   code: for programs.
    """

    def __init__(
        self, status: int, message: str, param: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code

    def record(self) -> dict[str, Any]:
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        code = self.code or HTTPStatus(self.status).name.lower()
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": code}}


class Part(BaseModel):
    """Of a message's content; a text is all that runs read."""

    type: Literal["text"]
    text: str


class Turn(BaseModel):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Part]

    def message(self) -> Message:
        content = self.content
        if not isinstance(content, str):
            content = "".join(part.text for part in content)
        role = "system" if self.role == "developer" else self.role
        return Message(role=role, content=content)


class StreamOptions(BaseModel):
    include_usage: bool = False


class Asked(BaseModel):
    """What a request of either kind may have. Of options that are not known none changes an
    answer.
    """

    model_config = ConfigDict(strict=True, extra="allow")

    model: str
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    seed: int | None = None
    stop: str | list[str] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    def stops(self) -> list[str]:
        stops = [self.stop] if isinstance(self.stop, str) else self.stop or []
        if len(stops) > 4 or "" in stops:
            raise Fault(400, "stop: give one to four texts that are not empty", "stop")
        return stops

    def settings(self, run: TrainedRun) -> Answering:
        """The run's own way to answer, with what the request says of it."""
        most = self.max_completion_tokens or self.max_tokens
        if most and most > run.settings.max_length_tokens:
            raise Fault(
                400,
                f"max_tokens: at most {run.settings.max_length_tokens}, which is max_length_tokens "
                f"of {run.name}, not {most}",
                "max_tokens",
            )
        temperature = self.temperature
        if temperature is not None and temperature < LEAST_TEMPERATURE:
            temperature = 0.0
        seed = None if self.seed is None else self.seed % SEEDS
        return overridden(
            run.settings, seed, max_new_tokens=most, temperature=temperature, top_p=self.top_p
        )

    def require_offered(self) -> None:
        for option, values in NEUTRAL.items():
            if (value := (self.model_extra or {}).get(option)) not in values:
                shown = " or ".join(repr(each) for each in values[1:])
                raise Fault(
                    400,
                    f"{option}: {value!r} is not offered here; leave it out, or send {shown}",
                    option,
                )


class Chat(Asked):
    """POST /v1/chat/completions."""

    messages: list[Turn] = Field(min_length=1)

    def row(self, run: TrainedRun) -> Row:
        """One message of a user is asked as `apply` asks it; what a system or an assistant says
        too is a conversation, which the chat template writes as it is.
        """
        messages = [turn.message() for turn in self.messages]
        if [message["role"] for message in messages] == ["user"]:
            return asked(run, messages[0]["content"], "messages")
        if tasks.corpus(run.task).SCORES_STEPS:
            raise Fault(
                400,
                f"messages: {run.name} scores the steps of one solution; send it as the only one",
                "messages",
            )
        if messages[-1]["role"] == "assistant":
            raise Fault(400, "messages: the last one is answered; let it be a user's", "messages")
        return Row(id="", category="", source="", messages=messages)


class Completion(Asked):
    """POST /v1/completions."""

    prompt: str | list[str]

    def row(self, run: TrainedRun) -> Row:
        prompts = [self.prompt] if isinstance(self.prompt, str) else self.prompt
        if len(prompts) != 1:
            raise Fault(400, "prompt: send one text a request; many at once are batched", "prompt")
        return asked(run, prompts[0], "prompt")


Kind = TypeVar("Kind", bound=Asked)


def parsed(kind: type[Kind], body: bytes) -> Kind:
    """A request's body. Raises Fault for one that is none of its kind."""
    try:
        request = kind.model_validate_json(body)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        # A union has a fault for each of its kinds: what they have in common is the place.
        place = [str(key) for key in fault["loc"] if key not in ("str", "list[str]", "list[Part]")]
        param = ".".join(place)
        raise Fault(400, f"{param or 'body'}: {fault['msg']}", param or None) from None
    request.require_offered()
    return request


def asked(run: TrainedRun, text: str, param: str) -> Row:
    try:
        return run.question(text)
    except UserError as fault:
        raise Fault(400, f"{param}: {fault}", param) from None


def usage(answered: Answered) -> dict[str, int]:
    return {
        "prompt_tokens": answered.prompt_tokens,
        "completion_tokens": answered.tokens,
        "total_tokens": answered.prompt_tokens + answered.tokens,
    }


@dataclass(frozen=True)
class Writer:
    """The records of one answer, of either kind."""

    chat: bool
    head: dict[str, Any]

    @classmethod
    def of(cls, request: Asked) -> "Writer":
        chat = isinstance(request, Chat)
        name = "chatcmpl" if chat else "cmpl"
        head = {"id": f"{name}-{uuid4().hex}", "created": int(time()), "model": request.model}
        return cls(chat, head)

    def whole(self, answered: Answered) -> dict[str, Any]:
        said: dict[str, Any] = {"text": answered.text}
        if self.chat:
            said = {"message": {"role": "assistant", "content": answered.text, "refusal": None}}
        return {
            **self.head,
            "object": "chat.completion" if self.chat else "text_completion",
            "choices": [self._choice(said, answered)],
            "usage": usage(answered),
        }

    def piece(self, text: str) -> dict[str, Any]:
        return self._chunk({"delta": {"content": text}} if self.chat else {"text": text})

    def first(self) -> dict[str, Any]:
        """Of a chat alone: who answers."""
        return self._chunk({"delta": {"role": "assistant", "content": ""}})

    def last(self, answered: Answered, with_usage: bool) -> Iterator[dict[str, Any]]:
        yield self._chunk({"delta": {}} if self.chat else {"text": ""}, answered)
        if with_usage:
            yield {**self._chunk({}), "choices": [], "usage": usage(answered)}

    def _chunk(self, said: dict[str, Any], answered: Answered | None = None) -> dict[str, Any]:
        kind = "chat.completion.chunk" if self.chat else "text_completion"
        return {**self.head, "object": kind, "choices": [self._choice(said, answered)]}

    def _choice(self, said: dict[str, Any], answered: Answered | None) -> dict[str, Any]:
        reason = answered and ("length" if answered.cut else "stop")
        return {"index": 0, **said, "logprobs": None, "finish_reason": reason}


def model_record(run: TrainedRun) -> dict[str, Any]:
    """As GET /v1/models lists it.   task: for the page."""
    return {
        "id": run.name,
        "object": "model",
        "created": int(run.folder.stat().st_mtime),
        "owned_by": "tsugiki",
        "task": run.task,
    }
