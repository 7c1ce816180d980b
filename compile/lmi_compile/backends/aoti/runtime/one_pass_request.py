"""A request to a model of one pass, checked field by field.

Texts: `{"inputs": str | [str, ...], "parameters": {...}}`, as Hugging Face's pipelines take them.
Pictures: `inputs` holds base64 of image files instead, or `pixel_values` a prepared picture
`[C, H, W]` or several; an image file itself as the body is read by its content type.
"""

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .request import BadRequest, boolean, integer, require_characters, short

_MOST_ITEMS = 256
_PICTURE_AXES = 3


@dataclass(frozen=True)
class Asked:
    """What is asked.

    Attributes:
        items: Texts; image files' bytes; or prepared pictures as nested lists.
        alone: A single item came, not a list: the answer is then not a list of answers.
        parameters: How to answer, checked.
    """

    items: tuple[Any, ...]
    alone: bool
    parameters: dict[str, Any]


def parse(body: object, head: str) -> Asked:
    """The request in a decoded JSON body.

    Raises:
        BadRequest: A field is missing, unknown, of the wrong type or out of range.
    """
    if not isinstance(body, dict):
        raise BadRequest('the body must be an object with "inputs"')
    allowed = {"inputs", "parameters"} | ({"pixel_values"} if head == "picture" else set())
    unknown = sorted(set(body) - allowed)
    if unknown:
        raise BadRequest(f"unknown field {short(unknown[0])}; known are {sorted(allowed)}")
    parameters = _parameters(body.get("parameters"), head)
    if head != "picture":
        texts, alone = _listed("inputs", body.get("inputs"), str)
        for text in texts:
            if not text:
                raise BadRequest("inputs holds an empty text")
            require_characters("inputs", text)
        return Asked(tuple(texts), alone, parameters)
    if ("inputs" in body) == ("pixel_values" in body):
        raise BadRequest("send either inputs (base64 of image files) or pixel_values")
    if "inputs" in body:
        files, alone = _listed("inputs", body["inputs"], str)
        return Asked(tuple(_decoded(file) for file in files), alone, parameters)
    pixels = body["pixel_values"]
    alone = _depth(pixels) == _PICTURE_AXES
    items, _ = _listed("pixel_values", [pixels] if alone else pixels, list)
    return Asked(tuple(items), alone, parameters)


def _parameters(given: object, head: str) -> dict[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise BadRequest("parameters must be an object")
    fields = _FIELDS[head]
    for name in sorted(set(given) - set(fields)):
        raise BadRequest(f"parameters.{short(name)} is unknown; known are {', '.join(fields)}")
    present = {name: value for name, value in given.items() if value is not None}
    return {name: fields[name](f"parameters.{name}", value) for name, value in present.items()}


def _listed(name: str, value: object, kind: type) -> tuple[list[Any], bool]:
    alone = isinstance(value, str)
    items = [value] if alone else value
    if not isinstance(items, list) or not items or not all(isinstance(i, kind) for i in items):
        raise BadRequest(f"{name} must be one item or a list of them, not {short(value)}")
    if len(items) > _MOST_ITEMS:
        raise BadRequest(f"{name} has {len(items)} items; at most {_MOST_ITEMS} are taken")
    return items, alone


def _decoded(text: str) -> bytes:
    payload = text.partition(",")[2] if text.startswith("data:") else text
    try:
        return base64.b64decode(payload, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadRequest(f"inputs is not base64 of an image file ({error})") from error


def _depth(value: object) -> int:
    depth = 0
    while isinstance(value, list) and value:
        value = value[0]
        depth += 1
    return depth


def _pooling(field: str, value: object) -> str:
    if value not in ("mean", "cls", "none"):
        raise BadRequest(f"{field} must be mean, cls or none, not {short(value)}")
    return str(value)


_Reader = Callable[[str, object], Any]
_TRUNCATE: dict[str, _Reader] = {"truncate": boolean}
_TOP: dict[str, _Reader] = {"top_k": integer(1, 1 << 20)}
_FIELDS: dict[str, dict[str, _Reader]] = {
    "embedding": {**_TRUNCATE, "normalize": boolean, "pooling": _pooling},
    "mask": {**_TRUNCATE, **_TOP},
    "label": {**_TRUNCATE, **_TOP},
    "token": _TRUNCATE,
    "replaced": _TRUNCATE,
    "picture": _TOP,
}
