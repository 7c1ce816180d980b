"""OpenAI's request bodies, field by field, as requests of the LMI schema."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lmi_compile.serving.limits import Refused

# Neither changes the answer.
_IGNORED = frozenset(
    {
        "messages", "metadata", "model", "parallel_tool_calls", "prompt", "prompt_cache_key",
        "reasoning_effort", "safety_identifier", "service_tier", "store", "user",
    }
)  # fmt: skip
# What this runtime has no other way of doing.
_FIXED: Mapping[str, tuple[object, ...]] = {
    "best_of": (1,),
    "echo": (False,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "modalities": (["text"],),
    "n": (1,),
    "presence_penalty": (0,),
    "response_format": ({"type": "text"},),
    "suffix": ("",),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "top_logprobs": (0,),
}
_CARRIED = ("top_k", "top_p", "repetition_penalty", "seed")
_OWN = frozenset(
    {"logprobs", "max_completion_tokens", "max_tokens", "stop", "stream", "stream_options"}
    | {"temperature"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a request wants besides its text.

    Attributes:
        parameters: By the LMI schema.
        fill: Whether the answer may take all the room there is.
        stream: In chunks.
        usage: With a last chunk that counts tokens.
        logprobs: With the tokens' log-probabilities.
        stops: Texts that end the answer and are not part of it.
    """

    parameters: dict[str, Any]
    fill: bool
    stream: bool
    usage: bool
    logprobs: bool
    stops: tuple[str, ...]


def read(body: Mapping[str, Any], *, default_tokens: int | None) -> Asked:
    """The fields that both kinds of completion have.

    Args:
        body: A JSON object.
        default_tokens: How long an answer may be that names no number; None is all the room.

    Raises:
        Refused: A field is unknown, wrong, or asks for what this model cannot do.
    """
    given = {name: value for name, value in body.items() if value is not None}
    for name, value in given.items():
        if name in _FIXED and value not in _FIXED[name]:
            raise Refused(400, f"{name}: this model can only do {_FIXED[name][0]!r}")
        if name not in {*_FIXED, *_IGNORED, *_CARRIED, *_OWN}:
            raise Refused(400, f"{name[:40]!a} is unknown")
    most = given.get("max_completion_tokens", given.get("max_tokens", default_tokens))
    temperature = _temperature(given.get("temperature", 1.0))
    stops = _stops(given.get("stop", []))
    parameters = {name: given[name] for name in _CARRIED if name in given}
    parameters |= {"do_sample": temperature > 0, "stop_sequences": list(stops)}
    if temperature > 0:
        parameters["temperature"] = temperature
    if most is not None:
        parameters["max_new_tokens"] = most
    options = given.get("stream_options", {})
    if not isinstance(options, dict):
        raise Refused(400, "stream_options must be an object")
    return Asked(
        parameters=parameters,
        fill=most is None,
        stream=_flag(given, "stream"),
        usage=_flag(options, "include_usage"),
        logprobs=given.get("logprobs", False) is not False,
        stops=stops,
    )


def messages(body: Mapping[str, Any]) -> list[dict[str, str]]:
    """The conversation, each message's content as one text.

    Raises:
        Refused: It is none.
    """
    told = body.get("messages")
    if not isinstance(told, list) or not told:
        raise Refused(400, "messages must be a list that is not empty")
    return [_message(place, message) for place, message in enumerate(told)]


def prompt(body: Mapping[str, Any]) -> str:
    """The text to complete.

    Raises:
        Refused: It is none, or several.
    """
    told = body.get("prompt")
    if isinstance(told, list) and len(told) == 1:
        (told,) = told
    if not isinstance(told, str) or not told:
        raise Refused(400, "prompt must be one text that is not empty")
    return told


def _message(place: int, message: object) -> dict[str, str]:
    where = f"messages[{place}]"
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        raise Refused(400, f"{where} must be an object with a role and a content")
    content = message.get("content")
    if isinstance(content, list):
        content = _parts(where, content)
    if not isinstance(content, str):
        raise Refused(400, f"{where}.content must be a text, or a list of texts")
    return {"role": message["role"], "content": content}


def _parts(where: str, parts: Sequence[object]) -> str:
    texts = []
    for part in parts:
        if not isinstance(part, dict) or not isinstance(part.get("text"), str):
            raise Refused(400, f"{where}.content: this model reads only text")
        texts.append(part["text"])
    return "\n".join(texts)


def _temperature(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 100:  # noqa: PLR2004 - the worker's own limit
        raise Refused(400, "temperature must be a number from 0 to 100")
    return float(value)


def _stops(value: object) -> tuple[str, ...]:
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or not all(isinstance(one, str) for one in stops):
        raise Refused(400, "stop must be a text or a list of texts")
    return tuple(stops)


def _flag(given: Mapping[str, Any], name: str) -> bool:
    value = given.get(name)
    if not isinstance(value, bool | None):
        raise Refused(400, f"{name} must be true or false")
    return bool(value)
