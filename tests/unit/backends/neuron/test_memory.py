"""The arithmetic, against the figures of the vendor's own documents and of the models."""

import json
from pathlib import Path

import pytest

from lmi_compile.backends.neuron.encoders import parameter_estimate
from lmi_compile.backends.neuron.memory import decoder_of, footprint, padded_heads
from lmi_recipes.catalog import find_recipe

CONFIGS = find_recipe("null-demo").parent / "configs"


def _config(name: str) -> dict:
    return json.loads((CONFIGS / f"{name}.json").read_text())


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("llama-2-7b", 6_738_415_616),
        ("llama-2-13b", 13_015_864_320),
        ("llama-2-70b", 68_976_648_192),
        ("llama-3.1-8b", 8_030_261_248),
        ("mistral-7b", 7_241_732_096),
        ("mixtral-8x7b", 46_702_792_704),
        ("qwen2-7b", 7_615_616_512),
    ],
)
def test_parameters_are_those_of_the_model_itself(name: str, parameters: int) -> None:
    decoder = decoder_of(_config(name))
    assert decoder is not None
    needs = footprint(decoder, degree=8, batch=1, length=64, dtype="bfloat16", method="none")
    assert needs.parameters == parameters
    assert needs.checkpoint_bytes == 2 * parameters


@pytest.mark.parametrize(
    ("name", "degree", "weights", "cache"),
    [
        ("llama-2-7b", 2, 6.74, 1.07),
        ("llama-2-7b", 8, 1.68, 0.27),
        ("llama-2-13b", 8, 3.25, 0.42),
        ("llama-2-70b", 24, 6.08, 0.17),
        ("llama-2-70b", 8, 17.24, 0.17),
        ("mistral-7b", 8, 1.81, 0.07),
        ("mixtral-8x7b", 8, 11.68, 0.07),
    ],
)
def test_gigabytes_of_each_core(name: str, degree: int, weights: float, cache: float) -> None:
    decoder = decoder_of(_config(name))
    assert decoder is not None
    needs = footprint(decoder, degree=degree, batch=1, length=4096, dtype="bfloat16", method="none")
    assert needs.weights_per_core / 1e9 == pytest.approx(weights, abs=0.005)
    assert needs.kv_per_core / 1e9 == pytest.approx(cache, abs=0.005)


def test_heads_are_padded_and_replicated_as_nxd_inference_does() -> None:
    seventy, seven = decoder_of(_config("llama-2-70b")), decoder_of(_config("llama-2-7b"))
    falcon = decoder_of(_config("falcon-7b"))
    assert seventy is not None
    assert seven is not None
    assert falcon is not None
    assert padded_heads(seventy, 24) == (72, 24)
    assert padded_heads(seventy, 8) == (64, 8)
    assert padded_heads(seventy, 3) == (66, 66)  # 8 is no multiple of 3: as many as queries
    assert padded_heads(seven, 24) == (48, 48)
    assert padded_heads(falcon, 8) == (72, 8)


def test_int8_halves_the_matrices_and_not_the_embeddings() -> None:
    decoder = decoder_of(_config("llama-2-7b"))
    assert decoder is not None
    plain, small = (
        footprint(decoder, degree=2, batch=1, length=4096, dtype="bfloat16", method=method)
        for method in ("none", "int8_wo")
    )
    ends = 2 * 2 * decoder.vocabulary * decoder.hidden
    assert small.weights_bytes - ends == (plain.weights_bytes - ends) // 2
    assert small.kv_per_core == plain.kv_per_core


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("bert-large-uncased", 335_174_458),
        ("electra-large-discriminator", 335_142_913),
        ("resnet-50", 25_557_032),
        ("roberta-base", 124_697_433),
        ("vit-base", 86_567_656),
    ],
)
def test_a_traced_models_estimate_lacks_only_its_head(name: str, parameters: int) -> None:
    assert 0.9 * parameters < parameter_estimate(_config(name)) <= parameters


def test_every_configuration_names_its_source() -> None:
    sources = (Path(CONFIGS) / "SOURCES.md").read_text()
    assert all(f"`{path.name}`" in sources for path in CONFIGS.glob("*.json"))
