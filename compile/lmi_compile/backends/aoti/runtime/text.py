"""Tokens out of a text, and text out of tokens as they come."""

from pathlib import Path

from tokenizers import Encoding, Tokenizer

from .environment import RuntimeMismatch
from .request import BadRequest

_UNFINISHED = "\ufffd"
# No known vocabulary has a longer token; a text beyond that is refused before it is tokenised.
_TOKEN_CHARACTERS = 256


def load_tokenizer(root: Path) -> Tokenizer:
    """The tokenizer of the tree at `root`, which neither pads nor cuts.

    Raises:
        RuntimeMismatch: Its file cannot be read.
    """
    try:
        tokenizer = Tokenizer.from_file(str(root / "tokenizer.json"))
    except Exception as error:
        what = f"tokenizer.json cannot be read ({error})"
        raise RuntimeMismatch(what, "Package the model again") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def encode(tokenizer: Tokenizer, text: str, most: int, *, special_tokens: bool = True) -> Encoding:
    """The tokens of a text, perhaps more than `most`.

    Raises:
        BadRequest: So long a text cannot have as few as `most` tokens.
    """
    if len(text) > most * _TOKEN_CHARACTERS:
        told = f"inputs has {len(text)} characters"
        raise BadRequest(f"{told}; this model takes at most {most} tokens")
    return tokenizer.encode(text, add_special_tokens=special_tokens)


class TextStream:
    """Decodes tokens one by one, holding back characters whose bytes are not all there.

    A token alone does not decode to its part of the text (leading spaces, characters cut in
    two), so each step decodes a short window twice: without and with the new token.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._start = 0  # the window's first token
        self._told = 0  # tokens whose text has been returned
        self.text = ""

    def add(self, token: int) -> str:
        """What `token` adds to the text; often nothing, until a character is complete."""
        self._ids.append(token)
        before = self._decode(self._start, self._told)
        after = self._decode(self._start, len(self._ids))
        if after.endswith(_UNFINISHED) or len(after) <= len(before):
            return ""
        self._start, self._told = self._told, len(self._ids)
        piece = after[len(before) :]
        self.text += piece
        return piece

    def finish(self) -> str:
        """What was still held back, as far as it can be decoded."""
        before = self._decode(self._start, self._told)
        piece = self._decode(self._start, len(self._ids))[len(before) :]
        self._told = len(self._ids)
        self.text += piece
        return piece

    def _decode(self, start: int, end: int) -> str:
        return str(self._tokenizer.decode(self._ids[start:end], skip_special_tokens=True))
