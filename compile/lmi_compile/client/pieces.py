"""What an answer says, piece by piece: JSON lines, server-sent events or one JSON document.

Shapes: DJL Serving's LMI output schema (`{"token": {...}}` lines, the last with `generated_text`
and `details`; `{"generated_text": ...}` unstreamed) and OpenAI's (`choices`, delta or whole).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from lmi_artifacts.foreign import parse_json


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One part of an answer.

    Attributes:
        text: what it adds to the text.
        tokens: how many tokens it is; 0 for one that only says how the answer ended.
        whole: the whole generated text, where the piece says it.
        finish_reason: why generation stopped, where it says so.
        error: what went wrong after the answer had begun, or None.
    """

    text: str = ""
    tokens: int = 0
    whole: str | None = None
    finish_reason: str | None = None
    error: str | None = None


def documents(blocks: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """Cut an answer into its JSON documents, each given as soon as its line has ended."""
    kept = b""
    for block in blocks:
        kept += block
        *lines, kept = kept.split(b"\n")
        for line in lines:
            yield from _document(line)
    yield from _document(kept)


def _document(line: bytes) -> Iterator[dict[str, Any]]:
    text = line.strip().removeprefix(b"data:").strip()
    if not text or text == b"[DONE]" or text.startswith((b":", b"event:", b"id:")):
        return
    try:
        found = parse_json(text)
    except ValueError:
        shown = text[:200].decode("utf-8", "replace")
        yield {"error": f"the answer has a line that is not JSON: {shown}"}
        return
    if isinstance(found, list) and found:
        found = found[0]
    yield found if isinstance(found, dict) else {"generated_text": str(found)}


def piece_of(document: dict[str, Any]) -> Piece:
    """Read one document."""
    match document:
        case {"error": {"message": str(message)}} | {"error": str(message)}:
            return Piece(error=message)
        case {"choices": [dict(choice), *_]}:
            return _openai(choice, document)
        case _:
            pass
    details = _object(document.get("details"))
    token, whole = document.get("token"), _text(document.get("generated_text"))
    reason = _text(details.get("finish_reason"))
    if reason == "error":
        return Piece(error=str(details.get("error") or document.get("error") or "it broke off"))
    if isinstance(token, dict):
        text = _text(token.get("text")) or ""
        return Piece(text=text, tokens=1, whole=whole, finish_reason=reason)
    tokens = _count(details.get("generated_tokens"))
    return Piece(text=whole or "", tokens=tokens, whole=whole, finish_reason=reason)


def _openai(choice: dict[str, Any], document: dict[str, Any]) -> Piece:
    reason = _text(choice.get("finish_reason"))
    delta = choice.get("delta")
    if isinstance(delta, dict):
        text = _text(delta.get("content"))
        return Piece(text=text or "", tokens=1 if text else 0, finish_reason=reason)
    message = choice.get("message")
    text = _text(message.get("content") if isinstance(message, dict) else choice.get("text"))
    tokens = _count(_object(document.get("usage")).get("completion_tokens"))
    return Piece(text=text or "", tokens=tokens or bool(text), finish_reason=reason)


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _count(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0
