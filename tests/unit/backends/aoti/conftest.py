"""One tiny Llama, really compiled once per session by the workers, each in its own process."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from compiled import build, work

MakeLlama = Callable[..., Path]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever needs the compiled package waits for a compiler."""
    for item in items:
        if {"built", "built_for_three", "built_in_8_bits"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def built(make_tiny_llama: MakeLlama, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    root = tmp_path_factory.mktemp("aoti")
    return build(root, make_tiny_llama(root / "model"))


@pytest.fixture(scope="session")
def built_in_8_bits(
    make_tiny_llama: MakeLlama, tmp_path_factory: pytest.TempPathFactory
) -> SimpleNamespace:
    """The same model with 8-bit weights and activations, smoothed, one scale per token."""
    import torch  # noqa: PLC0415 - only here
    from transformers import AutoModelForCausalLM  # noqa: PLC0415 - the same

    root = tmp_path_factory.mktemp("aoti8")
    model, text = make_tiny_llama(root / "model"), root / "text.txt"
    text.write_text(" ".join(f"{number * 7919} things" for number in range(300)), encoding="utf-8")
    params = {"num_samples": 8, "max_seq_len": 32, "seed": 1}
    work("calibrate", params, {"model": model, "dataset": text}, root / "calibrate")
    form = {"method": "smoothquant", "activations": "per_token", "reduced_range": True}
    done = build(root, model, {"calibrate": root / "calibrate"}, quantization=form)
    original = AutoModelForCausalLM.from_pretrained(model).eval()

    def logits(ids: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            found: torch.Tensor = original(ids[None]).logits[0]
        return found

    done.logits = logits
    done.form = form
    return done
