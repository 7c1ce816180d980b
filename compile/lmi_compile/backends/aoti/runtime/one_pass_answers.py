"""Answers of a model of one pass, in the shapes of Hugging Face's pipelines."""

from collections.abc import Mapping
from typing import Any

import torch
from tokenizers import Encoding, Tokenizer

from .one_pass_request import Asked
from .request import BadRequest

_TOP = 5


class Said:
    """A text's tokens, as answers quote them."""

    def __init__(self, encoding: Encoding, tokenizer: Tokenizer) -> None:
        self.ids: list[int] = encoding.ids
        self.spans: list[tuple[int, int]] = encoding.offsets
        self.words: list[str] = encoding.tokens
        self.special: list[int] = encoding.special_tokens_mask
        self.tokenizer = tokenizer


def answer_of(
    description: Mapping[str, Any], asked: Asked, said: Said | None, out: torch.Tensor
) -> Any:  # noqa: ANN401 - JSON
    """One item's answer.

    Args:
        description: `runtime.json`.
        asked: The request.
        said: The text; None of pictures.
        out: The graph's output for it, without padding: `[labels]`, or `[tokens, n]`.

    Raises:
        BadRequest: A mask is to be filled and the text has none.
    """
    parameters = asked.parameters
    match description["head"]:
        case "embedding":
            return embedding(out, parameters).tolist()
        case "label" | "picture":
            return _labels(description, out, parameters.get("top_k"))
        case _ if said is None:
            raise BadRequest("this model reads texts")
        case "mask":
            return _mask(description, said, out, parameters.get("top_k", _TOP))
        case "token":
            return _tokens(description, said, out)
        case _:
            return _replaced(said, out)


def embedding(states: torch.Tensor, parameters: Mapping[str, Any]) -> torch.Tensor:
    """One vector of a text, of length 1: the mean of its tokens' states, `[width]`.

    Args:
        states: `[tokens, width]`.
        parameters: `pooling` (`mean`; `cls` is the first token's; `none` gives every token's) and
            `normalize` (true; not with `none`).
    """
    match parameters.get("pooling", "mean"):
        case "none":
            return states
        case "cls":
            pooled = states[0]
        case _:
            pooled = states.mean(0)
    if parameters.get("normalize", True):
        pooled = torch.nn.functional.normalize(pooled, dim=0)
    return pooled


def chances(description: Mapping[str, Any], logits: torch.Tensor) -> torch.Tensor:
    """Of `[..., labels]`: all of them together, or each by itself where several may hold."""
    return logits.sigmoid() if description["independent"] else logits.softmax(-1)


def _labels(
    description: Mapping[str, Any], logits: torch.Tensor, most: int | None
) -> list[dict[str, Any]]:
    scores = chances(description, logits)
    best, places = scores.sort(descending=True, stable=True)
    names = description["labels"]
    pairs = list(zip(places.tolist(), best.tolist(), strict=True))[: most or _TOP]
    return [{"label": names[index], "score": score} for index, score in pairs]


def _mask(description: Mapping[str, Any], said: Said, logits: torch.Tensor, most: int) -> list[Any]:
    """The likeliest words for a mask; of several masks a list for each."""
    mask = description["mask_token_id"]
    places = [place for place, each in enumerate(said.ids) if each == mask]
    if mask is None or not places:
        raise BadRequest(f"inputs has no mask: write {description['mask_token']} where a word is")
    found = []
    for place in places:
        top = logits[place].softmax(-1).topk(min(logits.shape[-1], most))
        pairs = zip(top.indices.tolist(), top.values.tolist(), strict=True)
        found.append([_filled(said, place, index, score) for index, score in pairs])
    return found[0] if len(found) == 1 else found


def _filled(said: Said, place: int, index: int, score: float) -> dict[str, Any]:
    ids = [*said.ids[:place], index, *said.ids[place + 1 :]]
    return {
        "score": score,
        "token": index,
        "token_str": said.tokenizer.decode([index]),
        "sequence": said.tokenizer.decode(ids, skip_special_tokens=True),
    }


def _tokens(
    description: Mapping[str, Any], said: Said, logits: torch.Tensor
) -> list[dict[str, Any]]:
    best = chances(description, logits).max(-1)
    names = description["labels"]
    return [
        {"entity": names[best.indices[place]], "score": float(best.values[place]), **word}
        for place, word in _words(said)
    ]


def _replaced(said: Said, logits: torch.Tensor) -> list[dict[str, Any]]:
    """ELECTRA's discriminator: how likely each token is not the original one."""
    scores = logits.sigmoid()
    return [
        {
            "entity": "replaced" if scores[place] > 0.5 else "original",  # noqa: PLR2004 - of a chance
            "score": float(scores[place]),
            **word,
        }
        for place, word in _words(said)
    ]


def _words(said: Said) -> list[tuple[int, dict[str, Any]]]:
    """Every token that is not special, and where it stands in the text."""
    return [
        (place, {"index": place, "word": word, "start": span[0], "end": span[1]})
        for place, (word, span, special) in enumerate(
            zip(said.words, said.spans, said.special, strict=True)
        )
        if not special
    ]
