"""What an answer is before it has a protocol around it: whole, or flowing."""

import asyncio
import json
from base64 import b64encode
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.requests import Request  # noqa: TID253 - `serve` alone imports this module

from lmi_artifacts.foreign import parse_json
from lmi_compile.serving.engine import Engine, Event
from lmi_compile.serving.limits import Refused

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """An answer in one piece: JSON."""

    content: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """An answer that comes in pieces.

    Attributes:
        chunks: The pieces; may raise Refused after the first.
        media_type: What they are together.
        failed: How this protocol says, at their end, that the rest will not come.
    """

    chunks: AsyncGenerator[bytes, None]
    media_type: str
    failed: Callable[[Refused], bytes]


Reply = Whole | Flow


class Gone(Exception):
    """The client left before its answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """An answer whose first token is there, so that what can go wrong at once has gone wrong.

    Attributes:
        prompt_tokens: How many tokens the prompt has.
        events: `token`s, then `done`.
    """

    prompt_tokens: int
    events: AsyncGenerator[Event, None]

    async def whole(self) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """All tokens, and how it ended."""
        tokens: list[dict[str, Any]] = []
        async with aclosing(self.events):
            async for event in self.events:
                if "done" in event:
                    return tokens, event["done"]
                tokens.append(event["token"])
        raise AssertionError("the engine ends each answer with `done`")


async def begin(
    engine: Engine, body: object, *, special_tokens: bool = True, fill: bool = False
) -> Begun:
    """Asks, and waits for the first token.

    Args:
        engine: The model.
        body: By the LMI schema.
        special_tokens: Whether the tokenizer adds its own to the text.
        fill: Whether an answer without `max_new_tokens` may take all the room there is.

    Raises:
        Refused: As `Engine.ask`.
    """
    events = engine.ask({"body": body, "special_tokens": special_tokens, "fill": fill})
    prompt = await anext(events)
    first = await anext(events)
    return Begun(prompt_tokens=prompt["prompt"], events=_rejoined(first, events))


async def answer_at_once(engine: Engine, body: bytes, content_type: str) -> Whole:
    """The answer of a model of one pass: its package reads the body and writes the answer.

    Raises:
        Refused: As `Engine.ask`.
    """
    asked = {"body": b64encode(body).decode("ascii"), "content_type": content_type}
    async with aclosing(engine.ask(asked)) as events:
        event = await anext(events)
    return Whole(content=event["done"]["answer"])


async def _rejoined(
    first: Event, events: AsyncGenerator[Event, None]
) -> AsyncGenerator[Event, None]:
    async with aclosing(events):
        yield first
        async for event in events:
            yield event


async def with_last(events: AsyncIterator[Event]) -> AsyncGenerator[tuple[Any, Any], None]:
    """Each token with None, the last one with how it ended."""
    held = None
    async for event in events:
        if "done" in event:
            yield held, event["done"]
            return
        if held is not None:
            yield held, None
        held = event["token"]


async def read_body(request: Request, most: int, patience: float) -> bytes:
    """The request's body.

    Raises:
        Refused: It is too large, or comes too slowly.
        Gone: The client left.
    """
    told = request.headers.get("content-length", "")
    if told.isdecimal() and int(told) > most:
        raise Refused(413, f"the body has {told} bytes; at most {most} are taken")
    body = bytearray()
    try:
        async with asyncio.timeout(patience):
            while True:
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise Gone
                body += message.get("body", b"")
                if len(body) > most:
                    raise Refused(413, f"the body has more than the {most} bytes that are taken")
                if not message.get("more_body"):
                    return bytes(body)
    except TimeoutError as error:
        raise Refused(408, f"the body did not come within {patience:g} s") from error


async def unless_gone(request: Request, work: Awaitable[T]) -> T:
    """The result of `work`, which is cancelled when the client leaves first.

    Raises:
        Gone: It left.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise Gone
        return working.result()
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def decoded(body: bytes) -> Any:  # noqa: ANN401 - JSON from anybody, checked field by field later
    """The JSON in a body.

    Raises:
        Refused: It is not JSON.
    """
    try:
        return parse_json(body)
    except ValueError as error:
        raise Refused(400, f"the body is not JSON ({error})") from error


def an_object(body: object) -> Mapping[str, Any]:
    """The body of a request, all of which are objects.

    Raises:
        Refused: It is something else.
    """
    if not isinstance(body, dict):
        raise Refused(400, f"the body must be an object, not {type(body).__name__}")
    return body


def encoded(content: object) -> bytes:
    """JSON as it is sent."""
    return json.dumps(content, ensure_ascii=False, allow_nan=False).encode("utf-8")


def server_sent(content: object) -> bytes:
    """One server-sent event."""
    return b"data: " + encoded(content) + b"\n\n"
