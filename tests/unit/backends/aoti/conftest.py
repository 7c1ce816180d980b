"""What the steps of the tiny Llama's build made, and the same model in 8 bits."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from compiled import build, work
from lmi import Tiny
from once import once

MakeLlama = Callable[..., Path]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever needs the compiled package waits for a compiler."""
    for item in items:
        if {"built", "built_for_three", "built_in_8_bits"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def built(tiny: Tiny) -> SimpleNamespace:
    steps = tiny.steps()
    made = {name: steps[name] for name in ("compile", "weights", "package")}
    return SimpleNamespace(model=tiny.lmi.home / "model", **made)


@pytest.fixture(scope="session")
def built_in_8_bits(
    make_tiny_llama: MakeLlama, tmp_path_factory: pytest.TempPathFactory
) -> SimpleNamespace:
    """The same model with 8-bit weights and activations, smoothed, one scale per token."""
    import torch  # noqa: PLC0415 - only here
    from transformers import AutoModelForCausalLM  # noqa: PLC0415 - the same

    form = {"method": "smoothquant", "activations": "per_token", "reduced_range": True}

    def make(root: Path) -> SimpleNamespace:
        model, text = make_tiny_llama(root / "model"), root / "text.txt"
        words = " ".join(f"{number * 7919} things" for number in range(300))
        text.write_text(words, encoding="utf-8")
        params = {"num_samples": 8, "max_seq_len": 32, "seed": 1}
        work("calibrate", params, {"model": model, "dataset": text}, root / "calibrate")
        return build(root, model, {"calibrate": root / "calibrate"}, quantization=form)

    done = once(tmp_path_factory, "aoti8", make)
    original = AutoModelForCausalLM.from_pretrained(done.model).eval()

    def logits(ids: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            found: torch.Tensor = original(ids[None]).logits[0]
        return found

    done.logits = logits
    done.form = form
    return done
