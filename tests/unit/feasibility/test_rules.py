"""What cannot be, whatever the memory."""

from collections.abc import Callable

import pytest

from lmi_compile.feasibility.answer import answer
from lmi_compile.feasibility.question import Question
from lmi_compile.feasibility.rules import findings

Asker = Callable[..., Question]


def _problems(question: Question) -> dict[str, str]:
    found: dict[str, str] = {}
    for level, field, text in findings(question):
        if level == "problem":
            found[field] = f"{found.get(field, '')}{text}\n"
    return found


@pytest.mark.parametrize(
    ("instance", "changes", "field", "sentence"),
    [
        ("ml.p4d.24xlarge", {"method": "fp8"}, "quantization.method", "A100-40GB is sm_80"),
        ("ml.g5.2xlarge", {"kv_dtype": "fp8"}, "quantization.kv_cache_dtype", "A10G is sm_86"),
        ("ml.g4dn.xlarge", {"dtype": "bfloat16"}, "dtype", "bfloat16 needs sm_80"),
        ("ml.g4dn.xlarge", {"method": "awq"}, "quantization.method", "AWQ"),
        ("ml.g5.2xlarge", {"tensor_parallel": 2}, "tensor_parallel_degree", "has 1"),
        ("ml.p4d.24xlarge", {"tensor_parallel": 24}, "tensor_parallel_degree", "has 8"),
        ("ml.p4d.24xlarge", {"tensor_parallel": 3}, "tensor_parallel_degree", "32 KV heads"),
        ("ml.p4d.24xlarge", {"pipeline_parallel": 3}, "pipeline_parallel_degree", "32 layers"),
        ("ml.g5.2xlarge", {"seq_len": 8192}, "shapes.max_seq_len", "4096 positions"),
        ("ml.g5.2xlarge", {"num_tokens": 2}, "shapes.max_num_tokens", "prompt of 3072"),
        ("ml.g5.2xlarge", {"sm": (80,)}, "toolchain", "A10G is sm_86"),
        ("ml.inf2.xlarge", {}, "target", "Inferentia2"),
        (None, {}, "target", "not a CPU level"),
        ("ml.g5.2xlarge", {"backend": "neuron"}, "target", "runs on aws"),
        ("ml.inf2.24xlarge", {"backend": "neuron", "tensor_parallel": 24},
         "tensor_parallel_degree", "has 12"),
        ("ml.trn1.32xlarge", {"backend": "neuron", "tensor_parallel": 4},
         "tensor_parallel_degree", "1, 2, 8, 16, 32"),
        ("ml.inf2.48xlarge", {"backend": "neuron", "method": "awq"}, "quantization.method",
         "does not exist on Neuron"),
        ("ml.inf1.xlarge", {"backend": "neuron", "method": "fp8"}, "quantization.method", "v1"),
        ("ml.inf2.48xlarge", {"backend": "neuron", "neuron": ("trn2",)}, "toolchain", "inf2"),
        ("ml.p5.48xlarge", {"method": "awq", "config": {"model_type": "mixtral",
         "num_local_experts": 8, "num_experts_per_tok": 2}}, "quantization.method", "mixtral"),
        ("ml.p4d.24xlarge", {"method": "smoothquant", "tensor_parallel": 8,
         "config": {"num_key_value_heads": 4}}, "quantization.method", "repeated"),
    ],
)  # fmt: skip
def test_a_rule_says_no_and_why(
    ask: Asker, instance: str | None, changes: dict[str, object], field: str, sentence: str
) -> None:
    problems = _problems(ask(instance, **changes))
    assert sentence in problems[field]
    assert answer(ask(instance, **changes))["fits"] is False


@pytest.mark.parametrize(
    ("instance", "changes"),
    [
        ("ml.p5.48xlarge", {"method": "fp8", "kv_dtype": "fp8", "tensor_parallel": 8}),
        ("ml.p4d.24xlarge", {"method": "smoothquant", "tensor_parallel": 8}),
        ("ml.g6e.xlarge", {"method": "fp8"}),
        ("ml.inf2.48xlarge", {"backend": "neuron", "tensor_parallel": 24, "dtype": "bfloat16",
                              "batch": 1}),
        ("ml.p4d.24xlarge", {"config": {"num_key_value_heads": 4}, "tensor_parallel": 8}),
    ],
)  # fmt: skip
def test_a_legal_combination_is_not_refused(
    ask: Asker, instance: str, changes: dict[str, object]
) -> None:
    assert not _problems(ask(instance, **changes))
    assert answer(ask(instance, **changes))["fits"] is True


def test_every_problem_is_told_at_once(ask: Asker) -> None:
    asked = ask("ml.p4d.24xlarge", method="fp8", tensor_parallel=24, seq_len=9000, num_tokens=2)
    assert set(_problems(asked)) >= {
        "quantization.method",
        "tensor_parallel_degree",
        "shapes.max_seq_len",
        "shapes.max_num_tokens",
    }


def test_an_experts_width_is_held_against_the_degree(ask: Asker) -> None:
    config = {
        "model_type": "qwen2_moe", "moe_intermediate_size": 1408, "num_experts": 60,
        "shared_expert_intermediate_size": 5632, "num_experts_per_tok": 4,
    }  # fmt: skip
    wide = ask("ml.p4d.24xlarge", config=config | {"intermediate_size": 5632}, tensor_parallel=8)
    assert not _problems(wide)
    odd = ask("ml.p4d.24xlarge", config=config | {"moe_intermediate_size": 1404},
              tensor_parallel=8)  # fmt: skip
    assert "1404 cannot be split 8 ways" in _problems(odd)["tensor_parallel_degree"]


def test_neuron_pads_heads_and_says_so(ask: Asker) -> None:
    asked = ask("ml.inf2.48xlarge", backend="neuron", tensor_parallel=24)
    assert any("padded" in text for level, _, text in findings(asked) if level == "warning")
