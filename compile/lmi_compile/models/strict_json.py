"""JSON files of a model, read strictly: objects only, no duplicate keys, no NaN, bounded size."""

import json
from pathlib import Path
from typing import cast

from lmi_artifacts.digest import JSONValue
from lmi_compile.errors import ModelFault

MAX_JSON_BYTES = 64 << 20


class _NotStrictError(ValueError):
    """Text that `json` accepts and we do not."""


def read_object(path: Path) -> dict[str, JSONValue]:
    """The object that the file `path` holds.

    Raises:
        ModelFault: the file cannot be read, is too large, or is not strict JSON (with line and
            column).
    """
    try:
        size = path.stat().st_size
        if size > MAX_JSON_BYTES:
            why = f"it has {size} bytes; a model's JSON files have at most {MAX_JSON_BYTES}"
            raise _malformed(path, why)
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise _malformed(path, str(error.strerror)) from error
    except UnicodeDecodeError as error:
        raise _malformed(path, f"byte {error.start} is not UTF-8") from error
    try:
        return parse_object(text)
    except json.JSONDecodeError as error:
        raise _malformed(path, f"line {error.lineno}, column {error.colno}: {error.msg}") from error
    except ValueError as error:
        raise _malformed(path, str(error)) from error


def parse_object(text: str) -> dict[str, JSONValue]:
    """The JSON object in `text`.

    Raises:
        ValueError: it is not JSON (then a `json.JSONDecodeError`), not strict, nested too deeply,
            or not an object.
    """
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except RecursionError:
        message = "it is nested too deeply"
        raise _NotStrictError(message) from None
    if not isinstance(value, dict):
        message = f"it holds a {type(value).__name__}, not an object"
        raise _NotStrictError(message)
    if "\\u" in text:
        _refuse_lone_surrogates(value)
    return cast("dict[str, JSONValue]", value)


def _refuse_lone_surrogates(value: object) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        message = "it holds half of a surrogate pair"
        raise _NotStrictError(message) from error


def _unique(pairs: list[tuple[str, JSONValue]]) -> dict[str, JSONValue]:
    result = dict(pairs)
    if len(result) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        message = f"the key {twice[:80]!r} is there twice"
        raise _NotStrictError(message)
    return result


def _refuse_constant(name: str) -> JSONValue:
    message = f"{name} is not JSON"
    raise _NotStrictError(message)


def _malformed(path: Path, why: str) -> ModelFault:
    return ModelFault(
        what=f"{path.name} of the model cannot be read",
        why=f"{path}: {why}",
        fix="copy the file from the model's source again",
    )
