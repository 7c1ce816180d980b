"""What cannot be compiled is refused in words, before any compiler runs."""

from pathlib import Path
from typing import Any

import pytest
import torch
from family_configs import SMALL

from lmi_compile.backends.aoti import compile as step
from lmi_compile.backends.aoti import export, inductor, skeleton
from lmi_compile.errors import CompileError, EnvironmentFault, ModelFault, Unsupported

LLAMA = {**SMALL, "model_type": "llama"}
PARAMS: dict[str, Any] = {
    "config": LLAMA,
    "dtype": "float32",
    "max_batch_size": 1,
    "max_input_len": 16,
    "max_seq_len": 32,
    "march": "x86-64-v3",
    "simdlen": 256,
    "required_cpu_flags": ["avx2"],
}


def _export(model_type: str) -> None:
    config = skeleton.read_config({"model_type": model_type, "vocab_size": 99})
    shapes = export.Shapes(
        batch=1, max_input_len=8, max_seq_len=16, cache=skeleton.cache_shapes(config)
    )
    export.export_prefill(skeleton.build(config, torch.float32), shapes)


LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "factor": 2.0,
    "short_factor": [1.0] * 4,
    "long_factor": [2.0] * 4,
    "original_max_position_embeddings": 32,
}


@pytest.mark.parametrize(
    ("config", "error", "says"),
    [
        ({}, ModelFault, "no model type"),
        ({"model_type": "no-such-model"}, ModelFault, "no-such-model"),
        ({"model_type": "vit"}, Unsupported, "cannot compile"),
        ({**LLAMA, "architectures": ["LlamaForSequenceClassification"]}, Unsupported, "decoder"),
        ({**LLAMA, "quantization_config": {"bits": 4}}, Unsupported, "already quantised"),
        ({**LLAMA, "rope_parameters": LONGROPE}, Unsupported, "'longrope' changes"),
        ({**LLAMA, "hidden_size": "wide"}, ModelFault, "cannot read"),
    ],
)
def test_a_configuration_that_cannot_be_held(
    config: dict[str, Any], error: type[CompileError], says: str
) -> None:
    with pytest.raises(error, match=says):
        skeleton.read_config(config)


@pytest.mark.parametrize("model_type", ["bert", "mamba", "xlnet"])
def test_a_family_that_would_be_wrong_is_refused(model_type: str) -> None:
    with pytest.raises(Unsupported):
        _export(model_type)


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"dtype": "float16"}, Unsupported, "float16"),
        ({"max_input_len": 32}, Unsupported, "cannot be compiled"),
        ({"max_input_len": 1}, Unsupported, "cannot be compiled"),
        ({"max_seq_len": 65}, Unsupported, "the model's own limit 64"),
        ({"max_input_len": None}, Unsupported, "max_input_len"),
        ({"required_cpu_flags": ["avx2", "avx1024"]}, EnvironmentFault, "lacks avx1024"),
    ],
)
def test_parameters_that_cannot_be_compiled(
    tmp_path: Path, change: dict[str, Any], error: type[CompileError], says: str
) -> None:
    with pytest.raises(error, match=says):
        step.run({**PARAMS, **change}, {}, tmp_path)
    assert not list(tmp_path.iterdir())


def test_no_compiler_is_the_environments_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(EnvironmentFault, match=r"g\+\+ is not on PATH"):
        inductor.require_compiler()


def test_vectors_that_this_processor_lacks_are_not_replaced_by_scalars() -> None:
    with pytest.raises(EnvironmentFault, match="4096-bit"):
        inductor.require_vectors(inductor.Target(march="x86-64-v3", simdlen=4096))
