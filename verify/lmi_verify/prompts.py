"""Versioned prompts: the texts, their digest, and the digest of what a tokenizer made of them.

Light: read while planning.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from lmi_verify.errors import Malformed, PromptSetUnknown
from lmi_verify.jsonread import Reader

Fit: TypeAlias = Literal["one", "whole", "fill"]
_SETS = Path(__file__).parent / "data" / "prompts"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """One prompt.

    Attributes:
        id: Its name in tables and verdicts.
        area: What it covers, in words.
        fit: How many tokens of it are used: `one`, the `whole` text up to the longest prompt
            allowed, or exactly that many (`fill`, the text repeated).
        text: The text.
    """

    id: str
    area: str
    fit: Fit
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptSet:
    """The prompts of one version; `digest` is the sha256 of the file's bytes."""

    version: str
    digest: str
    prompts: tuple[Prompt, ...]


def known_versions() -> tuple[str, ...]:
    """The versions this installation has."""
    return tuple(sorted(path.stem for path in _SETS.glob("*.json")))


def load_prompts(version: str) -> PromptSet:
    """The prompt set of that version.

    Raises:
        PromptSetUnknown: There is none.
    """
    if version not in known_versions():
        raise PromptSetUnknown(version, known_versions())
    raw = (_SETS / f"{version}.json").read_bytes()
    content = Reader(json.loads(raw), version)
    return PromptSet(
        version=version,
        digest=f"sha256:{hashlib.sha256(raw).hexdigest()}",
        prompts=tuple(_prompt(item) for item in content.get("prompts").items()),
    )


def token_digest(
    source_digest: str,
    *,
    vocab_size: int,
    eos_token_ids: Sequence[int],
    ids: Sequence[tuple[str, Sequence[int], Sequence[int]]],
) -> str:
    """The digest that joins outputs to the exact tokens they were made from.

    Args:
        source_digest: Of the prompt set's file.
        vocab_size: Width of the logits.
        eos_token_ids: The ids that end a continuation.
        ids: For each prompt its id, its tokens and the tokens forced after it.

    Returns:
        `sha256:` and the digest of these values' canonical JSON.
    """
    value = {
        "source_digest": source_digest,
        "vocab_size": vocab_size,
        "eos_token_ids": list(eos_token_ids),
        "ids": [[name, list(tokens), list(forced)] for name, tokens, forced in ids],
    }
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    return f"sha256:{hashlib.sha256(canonical).hexdigest()}"


def _prompt(item: Reader) -> Prompt:
    return Prompt(
        id=item.get("id").text(),
        area=item.get("area").text(),
        fit=_fit(item.get("fit")),
        text=item.get("text").text(),
    )


def _fit(item: Reader) -> Fit:
    match item.value:
        case "one" | "whole" | "fill":
            return item.value
        case _:
            raise Malformed(item.where, "one, whole or fill", item.value)
