"""What a model of one pass computes: its class in transformers, its input, its output.

Light: read while planning.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

HeadName: TypeAlias = Literal["embedding", "mask", "label", "token", "replaced", "picture"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """A kind of output.

    Attributes:
        name: What a caller gets: a text's `embedding`, words for a `mask`, a text's `label`, a
            label for each `token`, whether each token was `replaced`, what is on a `picture`.
        loader: The class of transformers that loads models with it.
        output: The tensor: hidden states `[tokens, width]`; else logits, `[tokens, words]`,
            `[labels]`, `[tokens, labels]`, `[tokens]`, `[labels]`.
    """

    name: HeadName
    loader: str
    output: Literal["last_hidden_state", "logits"] = "logits"

    @property
    def reads(self) -> Literal["text", "image"]:
        """What it is given."""
        return "image" if self.name == "picture" else "text"

    @property
    def chooses(self) -> bool:
        """Whether the output's last axis is a choice, so that distributions can be compared."""
        return self.name not in {"embedding", "replaced"}


_REPLACED = Head(name="replaced", loader="AutoModelForPreTraining")
_HEADS = {
    "feature-extraction": Head(name="embedding", loader="AutoModel", output="last_hidden_state"),
    "fill-mask": Head(name="mask", loader="AutoModelForMaskedLM"),
    "text-classification": Head(name="label", loader="AutoModelForSequenceClassification"),
    "token-classification": Head(name="token", loader="AutoModelForTokenClassification"),
    "image-classification": Head(name="picture", loader="AutoModelForImageClassification"),
}
TASKS = tuple(_HEADS)


def head_of(task: str, config: Mapping[str, object]) -> Head | None:
    """The head for a task; ELECTRA's discriminator is its own. None: no model of one pass."""
    if task == "feature-extraction" and config.get("architectures") == ["ElectraForPreTraining"]:
        return _REPLACED
    return _HEADS.get(task)


def head_named(name: str) -> Head:
    """The head called so.

    Raises:
        KeyError: There is none.
    """
    return {head.name: head for head in (*_HEADS.values(), _REPLACED)}[name]  # type: ignore[index]  # any text may be looked up
