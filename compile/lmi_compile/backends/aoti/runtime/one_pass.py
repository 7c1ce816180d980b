"""A model that answers in one pass: an encoder or an image classifier, as one compiled graph.

The graph takes up to `max_batch_size` rows of any length up to `max_input_len`, so that a text
alone is not padded at all; texts that run together are padded to the longest of them.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Encoding

from . import environment, one_pass_images, threads
from .graphs import load_library, map_tensors
from .one_pass_answers import Said, answer_of
from .one_pass_request import Asked, parse
from .request import BadRequest, decode
from .text import encode, load_tokenizer

_GRAPH = "one_pass"


class OnePass:
    """The loaded model.

    Attributes:
        description: `runtime.json`.
        head: What it answers, as `lmi_verify.one_pass.heads` names it.
        tokenizer: Of a model that reads texts.
        threads: The thread decision, for the log.
    """

    def __init__(self, root: Path) -> None:
        """Checks the tree and the environment, then loads without writing anywhere.

        Raises:
            RuntimeMismatch: The tree is incomplete, or this machine cannot run it.
        """
        self.description = environment.load_description(root)
        environment.check(self.description["requires"])
        self.threads = threads.decide()
        torch.set_num_threads(self.threads.count)
        self.head = str(self.description["head"])
        self.limits: dict[str, Any] = self.description["limits"]
        self.batch = int(self.limits["max_batch_size"])
        if self.head != "picture":
            self.tokenizer = load_tokenizer(root)
        self._tensors = map_tensors(root, self.description, 0, 1)
        self._runner = load_library(root, self.description["graphs"][_GRAPH], self._tensors)

    def reply(self, body: bytes, content_type: str) -> Any:  # noqa: ANN401 - JSON
        """The answer to a body.

        Raises:
            BadRequest: The request is at fault; the text names the field.
        """
        if self.head == "picture" and not content_type.startswith("application/json"):
            return self._answer(Asked(items=(body,), alone=False, parameters={}))
        return self._answer(parse(decode(body), self.head))

    def _answer(self, asked: Asked) -> Any:  # noqa: ANN401 - JSON
        """One item's answer where a single one was asked, else a list of them."""
        if self.head == "picture":
            pictures = [self.pixels(item) for item in asked.items]
            outputs = self.see(pictures)
            found = [answer_of(self.description, asked, None, out) for out in outputs]
        else:
            encodings = [self._encode(text, asked) for text in asked.items]
            outputs = self.run([each.ids for each in encodings], [e.type_ids for e in encodings])
            found = [
                answer_of(self.description, asked, Said(encoding, self.tokenizer), out)
                for encoding, out in zip(encodings, outputs, strict=True)
            ]
        return found[0] if asked.alone else found

    def run(
        self, ids: Sequence[Sequence[int]], types: Sequence[Sequence[int]]
    ) -> list[torch.Tensor]:
        """The outputs of texts, each without its padding.

        Args:
            ids: Token ids of each text, 1 to max_input_len of them.
            types: Which segment each token belongs to.

        Returns:
            For each text the head's tensor, float32.

        Raises:
            BadRequest: A length or an id is outside the limits.
        """
        most, vocabulary = int(self.limits["max_input_len"]), int(self.description["vocabulary"])
        for row in ids:
            if not 1 <= len(row) <= most:
                raise BadRequest(f"a text has {len(row)} tokens: this model takes 1 to {most}")
            if min(row) < 0 or max(row) >= vocabulary:
                raise BadRequest(f"a token id is outside 0..{vocabulary - 1}")
        outputs: list[torch.Tensor] = []
        for start in range(0, len(ids), self.batch):
            rows, kinds = ids[start : start + self.batch], types[start : start + self.batch]
            outputs += self._together(rows, kinds)
        return outputs

    def see(self, pictures: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """The outputs of prepared pictures, float32 `[labels]` each.

        Raises:
            BadRequest: One has another shape than the graph takes.
        """
        shape = list(self.limits["picture"])
        for picture in pictures:
            if list(picture.shape) != shape or picture.dtype != torch.float32:
                found = list(picture.shape)
                raise BadRequest(f"pixel_values has the shape {found}: this model takes {shape}")
        outputs: list[torch.Tensor] = []
        for start in range(0, len(pictures), self.batch):
            given = torch.stack(list(pictures[start : start + self.batch])).contiguous()
            outputs += list(self._runner.run([given])[0])
        return outputs

    def pixels(self, item: object) -> torch.Tensor:
        """A picture `[C, H, W]` in float32, out of an image file's bytes or of numbers.

        Raises:
            BadRequest: The file cannot be read, or what should be numbers are none.
        """
        if isinstance(item, bytes):
            return one_pass_images.prepare(item, self.description["image"])
        try:
            given = torch.tensor(item, dtype=torch.float32)
        except (TypeError, ValueError, RuntimeError) as error:
            raise BadRequest(f"pixel_values must be lists of numbers ({error})") from error
        if not bool(torch.isfinite(given).all()):
            raise BadRequest("pixel_values holds a number that is not finite")
        return given

    def _together(
        self, rows: Sequence[Sequence[int]], kinds: Sequence[Sequence[int]]
    ) -> list[torch.Tensor]:
        longest = max(len(row) for row in rows)
        pad = int(self.description["pad_token_id"])
        made = {
            "input_ids": torch.full((len(rows), longest), pad, dtype=torch.int64),
            "attention_mask": torch.zeros(len(rows), longest, dtype=torch.int64),
            "token_type_ids": torch.zeros(len(rows), longest, dtype=torch.int64),
        }
        for index, (row, types) in enumerate(zip(rows, kinds, strict=True)):
            made["input_ids"][index, : len(row)] = torch.tensor(row)
            made["attention_mask"][index, : len(row)] = 1
            made["token_type_ids"][index, : len(row)] = torch.tensor(types)
        out = self._runner.run([made[name] for name in self.description["inputs"]])[0]
        if self.head == "label":
            return list(out)
        return [out[index, : len(row)] for index, row in enumerate(rows)]

    def _encode(self, text: str, asked: Asked) -> Encoding:
        most = int(self.limits["max_input_len"])
        encoding = encode(self.tokenizer, text, most)
        if len(encoding.ids) > most:
            if not asked.parameters.get("truncate"):
                told = f"inputs has {len(encoding.ids)} tokens; this model takes at most {most}"
                raise BadRequest(f"{told}, or cuts them with parameters.truncate")
            encoding = self.cut(text)
        if not encoding.ids:
            raise BadRequest("inputs has no tokens")
        return encoding

    def cut(self, text: str) -> Encoding:
        """The tokens of a text, as many as the model takes; special ones are kept."""
        self.tokenizer.enable_truncation(int(self.limits["max_input_len"]))
        try:
            encoding: Encoding = self.tokenizer.encode(text)
        finally:
            self.tokenizer.no_truncation()
        return encoding
