"""Requests to models of one pass, and pictures made into what a graph takes."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tiny_encoders import add_image_processor
from transformers import AutoImageProcessor

from lmi_compile.backends.aoti.one_pass.pictures import preparation
from lmi_compile.backends.aoti.runtime import one_pass_images
from lmi_compile.backends.aoti.runtime.one_pass_request import parse
from lmi_compile.backends.aoti.runtime.request import BadRequest
from lmi_compile.errors import ModelFault
from lmi_verify.one_pass.reference import drawn


def test_one_text_and_several_are_told_apart() -> None:
    assert parse({"inputs": "one"}, "label").alone
    several = parse({"inputs": ["one", "two"], "parameters": {"top_k": 1}}, "label")
    assert (several.items, several.alone, several.parameters) == (
        ("one", "two"),
        False,
        {"top_k": 1},
    )


def test_a_picture_comes_as_base64_as_a_data_url_or_as_numbers() -> None:
    text = base64.b64encode(b"bytes").decode()
    assert parse({"inputs": text}, "picture").items == (b"bytes",)
    assert parse({"inputs": f"data:image/png;base64,{text}"}, "picture").items == (b"bytes",)
    numbers = [[[0.0, 1.0]]]
    assert parse({"pixel_values": numbers}, "picture").items == (numbers,)
    assert parse({"pixel_values": numbers}, "picture").alone
    assert parse({"pixel_values": [numbers, numbers]}, "picture").items == (numbers, numbers)


@pytest.mark.parametrize(
    ("body", "head", "words"),
    [
        ([], "label", "must be an object"),
        ({}, "label", "inputs must be"),
        ({"inputs": ""}, "label", "empty text"),
        ({"inputs": []}, "label", "inputs must be"),
        ({"inputs": ["a", 1]}, "label", "inputs must be"),
        ({"inputs": ["a"] * 257}, "label", "at most 256"),
        ({"inputs": "\ud800"}, "label", "surrogate"),
        ({"inputs": "a", "stream": True}, "label", "unknown field"),
        ({"inputs": "a", "pixel_values": []}, "label", "unknown field"),
        ({"inputs": "a", "parameters": []}, "label", "parameters must be"),
        ({"inputs": "a", "parameters": {"top_k": 0}}, "label", "whole number"),
        ({"inputs": "a", "parameters": {"top_k": True}}, "label", "whole number"),
        ({"inputs": "a", "parameters": {"pooling": "max"}}, "embedding", "mean, cls or none"),
        ({"inputs": "a", "parameters": {"pooling": "cls"}}, "label", "unknown"),
        ({"inputs": "not base64!"}, "picture", "not base64"),
        ({}, "picture", "either"),
        ({"inputs": "", "pixel_values": []}, "picture", "either"),
        ({"pixel_values": 3}, "picture", "pixel_values must be"),
    ],
)
def test_a_bad_request_is_told_which_field(body: object, head: str, words: str) -> None:
    with pytest.raises(BadRequest, match=words):
        parse(body, head)


@pytest.mark.parametrize("kind", ["ViT", "ConvNext"])
@pytest.mark.parametrize("index", range(4))
def test_pixels_are_those_of_transformers_own_processor(
    tmp_path: Path, index: int, kind: str
) -> None:
    add_image_processor(tmp_path, size=48, shortest=kind == "ConvNext")
    config = json.loads((tmp_path / "preprocessor_config.json").read_bytes())
    steps = preparation(config, [3, 48, 48])
    processor = AutoImageProcessor.from_pretrained(tmp_path)
    picture = Image.open(io.BytesIO(drawn(index))).convert("RGB")
    wanted = processor(picture, return_tensors="pt")["pixel_values"][0]
    found = one_pass_images.prepare(drawn(index), steps)
    assert found.shape == wanted.shape
    assert float((found - wanted).abs().max()) < 1e-5
    assert found.dtype == torch.float32


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image_processor_type": "CLIPImageProcessor"}, "CLIPImageProcessor is not known"),
        ({"size": {"height": 32, "width": 32}}, r"makes pictures \[3, 32, 32\]"),
        ({"do_normalize": False}, "left out: do_normalize"),
        ({"size": "large"}, "not understood"),
        ({"do_center_crop": True}, "without do_center_crop"),
    ],
)
def test_a_processor_that_the_runtime_does_not_do_is_refused(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    add_image_processor(tmp_path, size=48)
    config = json.loads((tmp_path / "preprocessor_config.json").read_bytes())
    with pytest.raises(ModelFault, match=words):
        preparation({**config, **change}, [3, 48, 48])


def test_a_file_that_is_no_picture_is_refused_in_words() -> None:
    steps = {"resize": {"height": 8, "width": 8}, "crop": None, "resample": 2, "scale": 1.0}
    steps |= {"mean": [0.0] * 3, "std": [1.0] * 3}
    with pytest.raises(BadRequest, match="cannot be read"):
        one_pass_images.prepare(b"no picture", steps)
    with pytest.raises(BadRequest, match="cannot be read"):
        one_pass_images.prepare(drawn(0)[:200], steps)
    huge = io.BytesIO()
    Image.new("1", (10_000, 6_000)).save(huge, "PNG")
    with pytest.raises(BadRequest, match="at most 50000000"):
        one_pass_images.prepare(huge.getvalue(), steps)
