"""`/invocations` as LMI containers answer it, and TGI's paths for clients that were written for it.

Shapes: `_json_output_formatter` and `_jsonlines_output_formatter` of djl_python/output_formatter.py
(d21927c4), with `tgi_compat` for TGI's.
"""

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from lmi_compile.serving.engine import Engine
from lmi_compile.serving.limits import Refused
from lmi_compile.serving.openai_api import chat, complete
from lmi_compile.serving.replies import (
    Begun,
    Flow,
    Reply,
    Whole,
    an_object,
    begin,
    encoded,
    server_sent,
    with_last,
)
from lmi_compile.serving.template import ChatTemplate

_TGI_STATUS = {400: 422, 503: 429}
_TGI_KINDS = {422: "validation", 429: "overloaded"}


async def invoke(engine: Engine, template: ChatTemplate, body: object, accept: str) -> Reply:
    """Answers a request to `/invocations`, whichever of the three schemas it is written in.

    Args:
        engine: The model.
        template: For conversations.
        body: With `inputs` (LMI), `messages` or `prompt` (OpenAI).
        accept: The request's header: `text/event-stream` streams events instead of lines.

    Raises:
        Refused: As `Engine.ask`.
    """
    asked = an_object(body)
    if "inputs" not in asked and "messages" in asked:
        return await chat(engine, template, asked)
    if "inputs" not in asked and "prompt" in asked:
        return await complete(engine, asked)
    begun = await begin(engine, asked)
    line = server_sent if "text/event-stream" in accept else _line
    return await _reply(begun, asked, _shape(asked, tgi=False), line)


async def generate(engine: Engine, body: object, *, stream: bool | None = None) -> Reply:
    """Answers a request to TGI's `/`, `/generate` (a whole) and `/generate_stream`.

    Raises:
        Refused: With TGI's status.
    """
    try:
        asked = {**an_object(body), **({} if stream is None else {"stream": stream})}
        begun = await begin(engine, asked)
    except Refused as refused:
        raise Refused(_TGI_STATUS.get(refused.status, 424), refused.error) from refused
    reply = await _reply(begun, asked, _shape(asked, tgi=True), server_sent)
    if isinstance(reply, Whole) and stream is None:
        return Whole(content=[reply.content])
    return reply


def lmi_error(refused: Refused) -> dict[str, Any]:
    """The body of a refusal, as the packaged handler writes it."""
    return {"code": refused.status, "error": refused.error}


def tgi_error(refused: Refused) -> dict[str, Any]:
    """The body of a refusal, as TGI writes it."""
    return {"error": refused.error, "error_type": _TGI_KINDS.get(refused.status, "generation")}


def _tgi_token(token: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": token["id"],
        "text": token["text"],
        "logprob": token["log_prob"],
        "special": token.get("special_token", False),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shape:
    """How one request wants its answer.

    Attributes:
        prefix: The prompt, where the full text is asked for.
        details: Asked for; None otherwise.
        token: A token, in the client's schema.
    """

    prefix: str
    details: dict[str, Any] | None
    token: Callable[[Mapping[str, Any]], Mapping[str, Any]]

    def end(self, count: int, done: Mapping[str, Any]) -> dict[str, Any]:
        """The text, and details as far as they are asked for."""
        end: dict[str, Any] = {"generated_text": self.prefix + done["text"]}
        if self.details is not None:
            counted = {"finish_reason": done["finish_reason"], "generated_tokens": count}
            end["details"] = counted | self.details
        return end


def _shape(body: Mapping[str, Any], *, tgi: bool) -> _Shape:
    """Of a request that the worker took, so that its fields are known to be right."""
    asked = body.get("parameters") or {}
    own = {"prefill": [], "seed": asked.get("seed")} if tgi else {"inputs": body["inputs"]}
    return _Shape(
        prefix=body["inputs"] if asked.get("return_full_text") else "",
        details=own if asked.get("details") else None,
        token=_tgi_token if tgi else dict,
    )


async def _reply(
    begun: Begun, body: Mapping[str, Any], shape: _Shape, line: Callable[[object], bytes]
) -> Reply:
    if body.get("stream"):
        tgi = shape.token is _tgi_token
        return Flow(
            chunks=_flow(begun, shape, line),
            media_type="application/jsonlines" if line is _line else "text/event-stream",
            failed=lambda refused: line(tgi_error(refused) if tgi else lmi_error(refused)),
        )
    tokens, done = await begun.whole()
    whole = shape.end(len(tokens), done)
    if "details" in whole:
        whole["details"]["tokens"] = [shape.token(token) for token in tokens]
    return Whole(content=whole)


async def _flow(
    begun: Begun, shape: _Shape, line: Callable[[object], bytes]
) -> AsyncGenerator[bytes, None]:
    count = 0
    async with aclosing(begun.events) as events:
        async for token, done in with_last(events):
            count += 1
            end = {"generated_text": None, "details": None} if shape.token is _tgi_token else {}
            if done is not None:
                end |= shape.end(count, done)
            yield line({"token": shape.token(token), **end})


def _line(content: object) -> bytes:
    return encoded(content) + b"\n"
