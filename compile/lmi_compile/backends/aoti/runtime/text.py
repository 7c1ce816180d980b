"""Text out of tokens, as they come."""

from tokenizers import Tokenizer

_UNFINISHED = "\ufffd"


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
