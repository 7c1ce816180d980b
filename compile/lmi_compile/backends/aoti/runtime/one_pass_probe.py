"""Runs the examples of a verification through a packaged model of one pass.

    python -m lmi_aoti_runtime.one_pass_probe --prompts DIR --out DIR     (in the packaged tree)

Reads `prompts.json` and `prompts.safetensors`; writes `outputs.safetensors`, then `outputs.json`.
For example number i: `i.output`, what the graph gives for the reference's own input, alone;
`i.company`, the same among as many others as the graph takes; `i.embedding`, what a caller gets;
`i.text_ids` or `i.pixels`, what the tree itself makes of the text or the picture.
"""

import base64
import sys
import time
from collections.abc import Mapping
from typing import Any

import torch

from .one_pass import OnePass
from .one_pass_answers import embedding
from .probing import Found, Tensors, main, say


def _ask(model: OnePass, listing: Mapping[str, Any], given: Tensors) -> Found:
    numbers = [f"{index:03d}" for index in range(len(listing["prompts"]))]
    tensors: dict[str, torch.Tensor] = {}
    told = []
    for number, prompt in zip(numbers, listing["prompts"], strict=True):
        start = time.perf_counter()
        (output,) = _run(model, [number], given)
        seconds = round(time.perf_counter() - start, 4)
        tensors[f"{number}.output"] = output.contiguous()
        if model.head == "embedding":
            tensors[f"{number}.embedding"] = embedding(output, {})
        tensors |= _own(model, number, prompt)
        told.append({"id": prompt["id"], "seconds": seconds})
        say(f"{prompt['id']}: {seconds} s")
    if model.batch > 1:
        for start in range(0, len(numbers), model.batch):
            group = numbers[start : start + model.batch]
            for number, output in zip(group, _run(model, group, given), strict=True):
                tensors[f"{number}.company"] = output.contiguous()
    return Found(tensors, {"format": 1, "prompts": told})


def _run(model: OnePass, numbers: list[str], given: Tensors) -> list[torch.Tensor]:
    """The outputs of examples that run together."""
    if model.head == "picture":
        return model.see([given[f"{number}.pixel_values"] for number in numbers])
    ids = [given[f"{number}.input_ids"].tolist() for number in numbers]
    types = [
        given[f"{number}.token_type_ids"].tolist()
        if f"{number}.token_type_ids" in given
        else [0] * len(row)
        for number, row in zip(numbers, ids, strict=True)
    ]
    return model.run(ids, types)


def _own(model: OnePass, number: str, prompt: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    if model.head == "picture":
        return {f"{number}.pixels": model.pixels(base64.b64decode(prompt["image"]))}
    return {f"{number}.text_ids": torch.tensor(model.cut(prompt["text"]).ids)}


if __name__ == "__main__":
    sys.exit(main(OnePass, _ask))
