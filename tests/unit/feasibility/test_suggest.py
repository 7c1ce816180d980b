"""What is suggested does what it says."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from lmi_compile.feasibility.answer import answer
from lmi_compile.feasibility.matrix import every_target
from lmi_compile.feasibility.memory import memory_of
from lmi_compile.feasibility.placement import holds
from lmi_compile.feasibility.question import Question
from lmi_compile.feasibility.suggest import suggestions
from lmi_recipes.target import load_instance

Asker = Callable[..., Question]
_FIELDS = {
    "tensor_parallel_degree": "tensor_parallel",
    "quantization.method": "method",
    "quantization.kv_cache_dtype": "kv_dtype",
    "shapes.max_batch_size": "batch",
    "shapes.max_seq_len": "seq_len",
    "shapes.max_input_len": "input_len",
    "shapes.max_num_tokens": "num_tokens",
    "dtype": "dtype",
}
_LLAMA_70B = {
    "hidden_size": 8192, "num_attention_heads": 64, "num_key_value_heads": 8,
    "num_hidden_layers": 80, "intermediate_size": 28672,
}  # fmt: skip


def _followed(question: Question, fields: dict[str, Any]) -> Question:
    changes = {_FIELDS[name]: value for name, value in fields.items() if name in _FIELDS}
    if "target.instance_type" in fields:
        changes["instance"] = load_instance(fields["target.instance_type"])
    return replace(question, **changes)


@pytest.mark.parametrize(
    ("instance", "changes"),
    [
        ("ml.p4d.24xlarge", {"config": _LLAMA_70B}),
        ("ml.g5.xlarge", {"config": _LLAMA_70B}),
        ("ml.g5.12xlarge", {"config": {"hidden_size": 5120, "num_attention_heads": 40,
         "num_hidden_layers": 40, "intermediate_size": 13824}}),
        ("ml.p4d.24xlarge", {"method": "fp8"}),
        ("ml.g4dn.xlarge", {"dtype": "bfloat16"}),
        ("ml.g5.2xlarge", {"seq_len": 16384}),
        ("ml.g5.2xlarge", {"config": {"max_position_embeddings": 1 << 17}, "seq_len": 65536}),
        ("ml.inf2.xlarge", {"backend": "neuron", "dtype": "bfloat16"}),
        ("ml.g5.2xlarge", {"num_tokens": 16}),
        ("ml.g5.2xlarge", {"method": "fp8", "tensor_parallel": 3}),
    ],
)  # fmt: skip
def test_whoever_follows_a_suggestion_fits(
    ask: Asker, instance: str, changes: dict[str, object]
) -> None:
    asked = ask(instance, **changes)
    found = answer(asked)
    assert found["fits"] is False
    assert found["suggestions"]
    for suggestion in suggestions(asked, whole_batch=False):
        then = answer(_followed(asked, suggestion.set))
        assert then["fits"] is True, suggestion
        assert then["max_batch_size_with_reserve"] == suggestion.batch


def test_a_batch_that_does_not_fit_at_once_is_a_warning_with_the_figure(ask: Asker) -> None:
    found = answer(ask(batch=64))
    assert found["fits"] is True
    texts = [str(one) for one in found["warnings"]]  # type: ignore[union-attr]
    assert any("64 sequences of 4096 tokens do not fit at once: 3 do" in text for text in texts)


def test_a_static_cache_needs_the_whole_batch(ask: Asker) -> None:
    small = ask("ml.inf2.xlarge", backend="neuron", tensor_parallel=2, batch=1, dtype="bfloat16")
    large = replace(small, batch=64)
    assert holds(small, memory_of(small)) is True
    assert holds(large, memory_of(large)) is False


def test_degrees_on_neuron_are_ranked_by_their_ceilings(ask: Asker) -> None:
    asked = ask("ml.inf2.48xlarge", backend="neuron", tensor_parallel=8, batch=1)
    found = answer(asked)
    assert found["expected"] is None
    assert all(way["tokens_per_second"] is None for way in found["placements"])  # type: ignore[union-attr,index,call-overload]
    assert found["best_for_latency"] == {"tensor_parallel_degree": 24, "replicas": 1}
    assert found["best_for_throughput"] is not None


def test_the_matrix_has_every_machine_and_the_best_degree(ask: Asker) -> None:
    rows = {row["instance_type"]: row for row in every_target(ask(batch=512, seq_len=512,
            input_len=256, num_tokens=8192))}  # type: ignore[call-overload,index]  # fmt: skip
    assert len(rows) == 63
    assert (rows["ml.p4d.24xlarge"]["tensor_parallel_degree"],
            rows["ml.p4d.24xlarge"]["replicas"]) == (1, 8)  # fmt: skip
    assert rows["ml.p6e-gb200.36xlarge"]["fits"] is None
    assert rows["ml.inf1.xlarge"]["fits"] is False
    assert {rows[name]["backend"] for name in ("ml.g5.xlarge", "ml.trn2.48xlarge")} == {
        "tensorrt-llm",
        "neuron",
    }
    assert rows["ml.g7e.2xlarge"]["fits"] is True
    assert rows["ml.g7e.2xlarge"]["tokens_per_second"] is None
