"""Versioned prompts: the texts, their digest, and the digest of what a tokenizer made of them.

Light: read while planning.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

from lmi_verify.errors import Malformed, PromptSetUnknown
from lmi_verify.jsonread import Reader

Fit: TypeAlias = Literal["one", "whole", "half", "fill"]
_FIRST_ROWS, _LAST_ROWS = 4, 8
_SETS = Path(__file__).parent / "data" / "prompts"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """One prompt.

    Attributes:
        id: Its name in tables and verdicts.
        area: What it covers, in words.
        fit: How many tokens of it are used: `one`, the `whole` text up to the longest prompt
            allowed, or exactly that many or `half` of them (`fill`, the text repeated).
        text: The text.
        forced: Tokens that are forced after it; None takes the set's.
        corpus: The likelihood of every token of it is measured.
        repeats: The earlier prompt that it asks again.
    """

    id: str
    area: str
    fit: Fit
    text: str
    forced: int | None = None
    corpus: bool = False
    repeats: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """The first token after a prompt, drawn `draws` times with the seeds 0, 1, 2, ..."""

    prompt: str
    temperature: float
    draws: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptSet:
    """The prompts of one version.

    Attributes:
        version: Its name.
        digest: The sha256 of the file's bytes.
        prompts: In the order in which they are asked.
        forced: Tokens that are forced after a prompt; None takes the most that are allowed.
        rows: Positions of a prompt whose logits are compared; None takes all.
        batch: Ids of the prompts that are asked together, in this order, as many at a time as the
            build takes.
        batch_tokens: Tokens that are forced in a batch.
        sampling: What is drawn, if anything.
    """

    version: str
    digest: str
    prompts: tuple[Prompt, ...]
    forced: int | None = None
    rows: int | None = None
    batch: tuple[str, ...] = ()
    batch_tokens: int = 0
    sampling: Sampling | None = None

    def index(self, prompt: str) -> int:
        """Where the prompt of that id stands."""
        return [each.id for each in self.prompts].index(prompt)


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
    digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
    prompts = tuple(_prompt(item) for item in content.get("prompts").items())
    if content.get("format").integer() == 1:
        corpus = tuple(replace(prompt, corpus=True) for prompt in prompts)
        return PromptSet(version=version, digest=digest, prompts=corpus)
    batch, sampling = content.get("batch"), content.get("sampling")
    return PromptSet(
        version=version,
        digest=digest,
        prompts=prompts,
        forced=content.get("forced").integer(),
        rows=content.get("rows").integer(),
        batch=tuple(item.text() for item in batch.get("prompts").items()),
        batch_tokens=batch.get("tokens").integer(),
        sampling=Sampling(
            prompt=sampling.get("prompt").text(),
            temperature=sampling.get("temperature").number(),
            draws=sampling.get("draws").integer(),
        ),
    )


def rows_of(length: int, most: int | None) -> tuple[int, ...]:
    """The positions of a prompt whose logits are compared: the first, some between, the last.

    The last position itself is always the last of them.

    Args:
        length: Of the prompt, in tokens.
        most: How many are wanted; None takes all.
    """
    if most is None or length <= most:
        return tuple(range(length))
    between = most - _FIRST_ROWS - _LAST_ROWS
    span = length - _FIRST_ROWS - _LAST_ROWS
    middle = (_FIRST_ROWS + (index * span) // between for index in range(between))
    return (*range(_FIRST_ROWS), *middle, *range(length - _LAST_ROWS, length))


def token_digest(
    source_digest: str,
    *,
    vocab_size: int,
    eos_token_ids: Sequence[int],
    ids: Sequence[tuple[str, Sequence[Sequence[int]]]],
) -> str:
    """The digest that joins outputs to the exact tokens they were made from.

    Args:
        source_digest: Of the prompt set's file.
        vocab_size: Width of the logits.
        eos_token_ids: The ids that end a continuation.
        ids: For each prompt its id, and its lists of tokens and of positions.

    Returns:
        `sha256:` and the digest of these values' canonical JSON.
    """
    value = {
        "source_digest": source_digest,
        "vocab_size": vocab_size,
        "eos_token_ids": list(eos_token_ids),
        "ids": [[name, *map(list, lists)] for name, lists in ids],
    }
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    return f"sha256:{hashlib.sha256(canonical).hexdigest()}"


def file_digest(path: Path) -> str:
    """`sha256:` and the digest of a file's bytes."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def _prompt(item: Reader) -> Prompt:
    given = item.entries()
    return Prompt(
        id=item.get("id").text(),
        area=item.get("area").text(),
        fit=_fit(item.get("fit")),
        text=item.get("text").text(),
        forced=given["forced"].integer() if "forced" in given else None,
        corpus="corpus" in given and given["corpus"].flag(),
        repeats=given["repeats"].text() if "repeats" in given else None,
    )


def _fit(item: Reader) -> Fit:
    match item.value:
        case "one" | "whole" | "half" | "fill":
            return item.value
        case _:
            raise Malformed(item.where, "one, whole, half or fill", item.value)
