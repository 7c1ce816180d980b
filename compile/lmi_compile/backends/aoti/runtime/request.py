"""A request as LMI clients write it, checked field by field.

`{"inputs": str, "parameters": {...}, "stream": bool}`; names and defaults are those of the LMI
text generation schema. Sampling settings act only with `do_sample`. Parameters of that schema that
this runtime does not carry are taken in their neutral value and refused in any other.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_MAX_STOPS = 16
_SHOWN = 40


class BadRequest(Exception):
    """The request cannot be answered, by its own fault; the text names the field."""


@dataclass(frozen=True)
class Parameters:
    """How to continue a text.

    Attributes:
        max_new_tokens: At most so many tokens.
        do_sample: Draw from the distribution instead of taking the likeliest token.
        temperature: Divides the logits before drawing.
        top_k: Draw from the k likeliest only; 0 is all.
        top_p: Draw from the smallest set with at least this much probability.
        repetition_penalty: Divides positive logits of tokens that were seen, multiplies negative
            ones; also without `do_sample`.
        seed: Of the draws; None takes one from the system.
        stop_sequences: Texts that end the continuation; not part of the answer. Also named `stop`.
        details: Whether the answer tells how it came about.
        return_full_text: Whether the answer begins with the prompt.
    """

    max_new_tokens: int = 30
    do_sample: bool = False
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    stop_sequences: tuple[str, ...] = ()
    details: bool = False
    return_full_text: bool = False


@dataclass(frozen=True)
class Request:
    """A prompt and how to continue it."""

    inputs: str
    parameters: Parameters
    stream: bool = False


def decode(body: bytes) -> Any:  # noqa: ANN401 - JSON from anybody, checked field by field later
    """The JSON in a body.

    Raises:
        BadRequest: It is not JSON.
    """
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"the body is not JSON ({error})") from error


def parse(body: object) -> Request:
    """The request in a decoded JSON body.

    Raises:
        BadRequest: A field is missing, unknown, of the wrong type or out of range.
    """
    if not isinstance(body, dict):
        raise BadRequest(f'the body must be an object with "inputs", not {_kind(body)}')
    unknown = sorted(set(body) - {"inputs", "parameters", "stream"})
    if unknown:
        raise BadRequest(f"unknown field {unknown[0]!r}; known are inputs, parameters, stream")
    stream = body.get("stream")
    inputs = body.get("inputs")
    if not isinstance(inputs, str) or not inputs:
        raise BadRequest(f"inputs must be a text that is not empty, not {_kind(inputs)}")
    require_characters("inputs", inputs)
    parameters = body.get("parameters")
    if parameters is None:
        parameters = {}
    if not isinstance(parameters, dict):
        raise BadRequest(f"parameters must be an object, not {_kind(parameters)}")
    flows = False if stream is None else boolean("stream", stream)
    return Request(inputs, _parameters(parameters), flows)


def _parameters(given: dict[str, Any]) -> Parameters:
    unknown = sorted(set(given) - set(_FIELDS) - set(_NEUTRAL) - {"stop"})
    if unknown:
        name = short(unknown[0])
        raise BadRequest(f"parameters.{name} is unknown; known are {', '.join(_FIELDS)}")
    present = {name: value for name, value in given.items() if value is not None}
    for name in sorted(set(present) & set(_NEUTRAL)):
        value, neutral = present.pop(name), _NEUTRAL[name]
        if type(value) not in {type(neutral), int} or value != neutral:
            raise BadRequest(f"parameters.{name} can only be {neutral!r} with this model")
    if "stop" in present:
        if "stop_sequences" in present:
            raise BadRequest("parameters.stop and parameters.stop_sequences mean the same")
        present["stop_sequences"] = present.pop("stop")
    return Parameters(
        **{name: _FIELDS[name](f"parameters.{name}", value) for name, value in present.items()}
    )


def integer(low: int, high: int) -> Callable[[str, object], int]:
    """What reads a field that holds a whole number; it raises BadRequest."""

    def read(field: str, value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            message = f"{field} must be a whole number from {low} to {high}, not {short(value)}"
            raise BadRequest(message)
        return value

    return read


def _number(low: float, high: float) -> Callable[[str, object], float]:
    def read(field: str, value: object) -> float:
        right = isinstance(value, int | float) and not isinstance(value, bool)
        if not right or not low < float(value) <= high:  # type: ignore[arg-type]  # checked above
            said = f"{field} must be a number above {low:g} and up to {high:g}"
            raise BadRequest(f"{said}, not {short(value)}")
        return float(value)  # type: ignore[arg-type]  # checked above

    return read


def boolean(field: str, value: object) -> bool:
    """Reads a field that holds true or false.

    Raises:
        BadRequest: It holds something else.
    """
    if not isinstance(value, bool):
        raise BadRequest(f"{field} must be true or false, not {short(value)}")
    return value


def _texts(field: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(one, str) and one for one in value):
        said = f"{field} must be a list of texts that are not empty"
        raise BadRequest(f"{said}, not {short(value)}")
    if len(value) > _MAX_STOPS:
        raise BadRequest(f"{field} has {len(value)} texts; at most {_MAX_STOPS} are allowed")
    for one in value:
        require_characters(field, one)
    return tuple(value)


def require_characters(field: str, text: str) -> None:
    """JSON can spell half of a surrogate pair, which is no character and has no bytes.

    Raises:
        BadRequest: The text holds one.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        place = f"{field}, character {error.start}"
        raise BadRequest(f"{place}: half of a surrogate pair is no character") from error


def _kind(value: object) -> str:
    return "nothing" if value is None else f"{type(value).__name__} {short(value)}"


def short(value: object) -> str:
    """What was sent, for a message: never all of it, and always printable."""
    shown = ascii(value)
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."


_FIELDS: dict[str, Callable[[str, object], Any]] = {
    "max_new_tokens": integer(1, 1 << 20),
    "do_sample": boolean,
    "temperature": _number(0.0, 100.0),
    "top_k": integer(0, 1 << 31),
    "top_p": _number(0.0, 1.0),
    "repetition_penalty": _number(0.0, 100.0),
    "seed": integer(0, (1 << 63) - 1),
    "stop_sequences": _texts,
    "details": boolean,
    "return_full_text": boolean,
}
# Parameters of LMI and TGI clients that change nothing in these values.
_NEUTRAL: dict[str, bool | float] = {
    "best_of": 1,
    "decoder_input_details": False,
    "frequency_penalty": 0.0,
    "ignore_eos_token": False,
    "length_penalty": 1.0,
    "presence_penalty": 0.0,
    "top_n_tokens": 0,
    "typical_p": 1.0,
    "watermark": False,
}
