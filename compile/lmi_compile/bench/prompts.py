"""Prompts of a fixed length: by the model's own tokenizer where there is one, else by words."""

import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Final

_WORDS: Final = tuple(
    "the of and to in is it you that he was for on are with as his they be at one have this from "  # noqa: SIM905 - a list of words, not of quotes
    "or had by hot but some what there we can out other were all your when up use word how said "
    "an each she which do their time if will way about many then them would write like so these "
    "her long make thing see him two has look more day could go come did my sound no most number "
    "who over know water than call first people may down side been now find any new work "
    "part".split()
)
_DIFFERENT: Final = 64  # so that no server answers from a cache of prefixes
_TRIES: Final = 50


def make_prompts(tokens: int, tokenizer: Path | None) -> tuple[tuple[str, ...], str]:
    """Make different prompts of so many tokens each, the same ones on every run.

    Args:
        tokens: of each prompt.
        tokenizer: a `tokenizer.json`, or None.

    Returns:
        The prompts, and how they were counted: `the model's tokenizer` or `words`.

    Raises:
        OSError: the tokenizer cannot be read.
    """
    picked = random.Random(7)  # noqa: S311 - the same prompts every time
    if tokenizer is None:
        prompts = tuple(" ".join(picked.choices(_WORDS, k=tokens)) for _ in range(_DIFFERENT))
        return prompts, "words"
    from tokenizers import Tokenizer

    try:
        counter = Tokenizer.from_file(str(tokenizer))
    except Exception as error:  # the library raises nothing narrower
        message = f"{tokenizer} is no tokenizer: {error}"
        raise OSError(message) from error

    def count(text: str) -> int:
        return len(counter.encode(text).ids)

    return tuple(
        _exactly(tokens, picked, count) for _ in range(_DIFFERENT)
    ), "the model's tokenizer"


def _exactly(tokens: int, picked: random.Random, count: Callable[[str], int]) -> str:
    """Words are added or dropped until the count is right; else the nearest that was seen."""
    words = picked.choices(_WORDS, k=max(1, tokens))
    best, off = " ".join(words), math.inf
    for _ in range(_TRIES):
        text = " ".join(words)
        found = count(text)
        if abs(found - tokens) < off:
            best, off = text, abs(found - tokens)
        if not off:
            break
        change = max(1, round(abs(found - tokens) * len(words) / max(found, 1)))
        if found < tokens:
            words += picked.choices(_WORDS, k=change)
        else:
            del words[max(1, len(words) - change) :]
            words[-1] = picked.choice(_WORDS)
    return best
