"""`/v1/chat/completions`, `/v1/completions` and `/v1/models` as OpenAI's clients read them."""

import time
import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Literal

from lmi_compile.serving import openai_fields as fields
from lmi_compile.serving.engine import Engine
from lmi_compile.serving.limits import Refused
from lmi_compile.serving.replies import (
    Begun,
    Flow,
    Reply,
    Whole,
    an_object,
    begin,
    server_sent,
    with_last,
)
from lmi_compile.serving.template import ChatTemplate

_COMPLETION_TOKENS = 16  # OpenAI's default for /v1/completions
_TYPES = {400: "invalid_request_error", 413: "invalid_request_error", 503: "overloaded_error"}
_REASONS = {"length": "length", "eos_token": "stop", "stop_sequence": "stop"}
Kind = Literal["chat.completion", "text_completion"]


async def chat(engine: Engine, template: ChatTemplate, body: object) -> Reply:
    """Answers a conversation.

    Raises:
        Refused: As `Engine.ask`, or the body is not what OpenAI's schema says.
    """
    given = an_object(body)
    asked = fields.read(given, default_tokens=None)
    text = template.render(fields.messages(given))
    request = {"inputs": text, "parameters": asked.parameters}
    begun = await begin(engine, request, special_tokens=False, fill=asked.fill)
    return await _reply(_Voice("chat.completion", engine.model.name, asked), begun)


async def complete(engine: Engine, body: object) -> Reply:
    """Continues a text.

    Raises:
        Refused: As `chat`.
    """
    given = an_object(body)
    asked = fields.read(given, default_tokens=_COMPLETION_TOKENS)
    request = {"inputs": fields.prompt(given), "parameters": asked.parameters}
    begun = await begin(engine, request, fill=asked.fill)
    return await _reply(_Voice("text_completion", engine.model.name, asked), begun)


def models(engine: Engine) -> dict[str, Any]:
    """The one model that is served."""
    model = engine.model
    card = {
        "id": model.name,
        "object": "model",
        "created": 0,
        "owned_by": "lmi-compile",
        "max_model_len": model.max_seq_len,
    }
    return {"object": "list", "data": [card]}


def openai_error(refused: Refused) -> dict[str, Any]:
    """The body of a refusal."""
    kind = _TYPES.get(refused.status, "server_error")
    told = {"message": refused.error, "type": kind, "param": None, "code": refused.status}
    return {"error": told}


class Held:
    """The text of a stream, less what may yet turn out to be a stop sequence."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._text = ""
        self._said = 0

    def add(self, piece: str) -> str:
        """What may be said now that `piece` has come."""
        self._text += piece
        end = len(self._text)
        for stop in self._stops:
            found = self._text.find(stop, self._said)
            if found >= 0:
                end = min(end, found)
                continue
            for size in range(min(len(stop) - 1, len(self._text) - self._said), 0, -1):
                if self._text.endswith(stop[:size]):
                    end = min(end, len(self._text) - size)
                    break
        said, self._said = self._said, max(self._said, end)
        return self._text[said : self._said]

    def rest(self, text: str) -> str:
        """What is still to say of the whole `text`."""
        return text[self._said :]


@dataclass(frozen=True, slots=True)
class _Voice:
    """How one answer speaks: its kind, its model, and what was asked for."""

    kind: Kind
    model: str
    asked: fields.Asked

    def envelope(self) -> dict[str, Any]:
        """What each piece of an answer begins with."""
        chat_ = self.kind == "chat.completion"
        return {
            "id": f"{'chatcmpl' if chat_ else 'cmpl'}-{uuid.uuid4().hex}",
            "object": f"{self.kind}.chunk" if chat_ and self.asked.stream else self.kind,
            "created": int(time.time()),
            "model": self.model,
        }

    def choice(
        self, text: str, tokens: Sequence[Mapping[str, Any]], reason: str | None, **more: str
    ) -> dict[str, Any]:
        """One choice, whole or in part."""
        content: dict[str, Any] = {"content": text, **more}
        where = "delta" if self.asked.stream else "message"
        said = {where: content} if self.kind == "chat.completion" else {"text": text}
        logprobs = self._logprobs(tokens) if self.asked.logprobs and tokens else None
        ended = None if reason is None else _REASONS[reason]
        return {"index": 0, **said, "logprobs": logprobs, "finish_reason": ended}

    def _logprobs(self, tokens: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        if self.kind == "text_completion":
            return {
                "tokens": [token["text"] for token in tokens],
                "token_logprobs": [token["log_prob"] for token in tokens],
                "top_logprobs": None,
                "text_offset": None,
            }
        return {"content": [_logprob(token) for token in tokens], "refusal": None}


def _logprob(token: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "token": token["text"],
        "logprob": token["log_prob"],
        "bytes": list(token["text"].encode("utf-8")),
        "top_logprobs": [],
    }


async def _reply(voice: _Voice, begun: Begun) -> Reply:
    if voice.asked.stream:
        return Flow(
            chunks=_flow(voice, begun),
            media_type="text/event-stream",
            failed=lambda refused: server_sent(openai_error(refused)),
        )
    tokens, done = await begun.whole()
    role = {"role": "assistant"} if voice.kind == "chat.completion" else {}
    choice = voice.choice(done["text"], tokens, done["finish_reason"], **role)
    usage = _usage(begun.prompt_tokens, len(tokens))
    return Whole(content={**voice.envelope(), "choices": [choice], "usage": usage})


async def _flow(voice: _Voice, begun: Begun) -> AsyncGenerator[bytes, None]:
    held, count, envelope = Held(voice.asked.stops), 0, voice.envelope()

    def chunk(*choices: dict[str, Any], usage: dict[str, int] | None = None) -> bytes:
        return server_sent({**envelope, "choices": list(choices), "usage": usage})

    if voice.kind == "chat.completion":
        yield chunk(voice.choice("", (), None, role="assistant"))
    async with aclosing(begun.events) as events:
        async for token, done in with_last(events):
            count += 1
            text = held.add(token["text"])
            if done is not None:
                text += held.rest(done["text"])
            yield chunk(voice.choice(text, [token], done and done["finish_reason"]))
    if voice.asked.usage:
        yield chunk(usage=_usage(begun.prompt_tokens, count))
    yield b"data: [DONE]\n\n"


def _usage(prompt: int, completion: int) -> dict[str, int]:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }
