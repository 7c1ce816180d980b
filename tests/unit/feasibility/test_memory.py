from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmi_compile.feasibility.families.find import shape_of
from lmi_compile.feasibility.memory import (
    checkpoint_bytes,
    kv_bytes,
    largest_batch_with_reserve,
    largest_length,
    memory_of,
    weight_bytes,
)
from lmi_compile.feasibility.placement import holds
from lmi_compile.feasibility.question import Question
from lmi_recipes.target import load_instance

Asker = Callable[..., Question]
_LLAMA_70B = {
    "hidden_size": 8192, "num_attention_heads": 64, "num_key_value_heads": 8,
    "num_hidden_layers": 80, "intermediate_size": 28672,
}  # fmt: skip


def test_kv_heads_are_repeated_below_one_a_rank(ask: Asker) -> None:
    asked = ask("ml.p4d.24xlarge", config=_LLAMA_70B)
    each = [kv_bytes(replace(asked, tensor_parallel=one), 1) for one in (1, 2, 8, 16)]
    assert each[0] == 2 * 80 * 8 * 128 * 2
    assert each == [each[0], each[0] // 2, each[0] // 8, each[0] // 8]


@pytest.mark.parametrize(("kind", "share"), [("auto", 1), ("int8", 2), ("fp8", 2)])
def test_the_cache_has_its_own_type(ask: Asker, kind: str, share: int) -> None:
    assert kv_bytes(ask(kv_dtype=kind), 4096) * share == kv_bytes(ask(), 4096)


def test_a_window_shortens_a_paged_cache_only(ask: Asker) -> None:
    config = {"model_type": "mistral", "sliding_window": 1024}
    paged = ask(config=config)
    static = replace(paged, backend="neuron", instance=load_instance("ml.inf2.48xlarge"))
    assert kv_bytes(paged, 4096) == kv_bytes(paged, 1024)
    assert kv_bytes(static, 4096) == 4 * kv_bytes(static, 1024)


@pytest.mark.parametrize(
    ("method", "bits"),
    [
        ("none", 16),
        ("int8_wo", 8),
        ("fp8", 8),
        ("smoothquant", 8),
        ("int4_wo", 4),
        ("awq", 4 + 16 / 128),
        ("gptq", 4 + 32 / 128),
    ],
)
def test_quantised_weights_have_their_bits_and_little_more(
    ask: Asker, method: str, bits: float
) -> None:
    linear = 32 * (4 * 4096 * 4096 + 3 * 4096 * 11008)
    plain = 2 * (2 * 32000 * 4096 + 65 * 4096)
    each = (weight_bytes(ask(method=method)) - plain) * 8 / linear
    assert bits <= each < bits + 0.02


def test_int8_per_channel_to_the_byte(ask: Asker) -> None:
    linear = 32 * (4 * 4096 * 4096 + 3 * 4096 * 11008)
    rows = 32 * (4 * 4096 + 2 * 11008 + 4096)
    plain = 2 * (2 * 32000 * 4096 + 65 * 4096)
    assert weight_bytes(ask(method="int8_wo")) == linear + 2 * rows + plain


def test_stages_share_the_layers(ask: Asker) -> None:
    one, two = weight_bytes(ask()), weight_bytes(ask(pipeline_parallel=2))
    ends = 2 * 32000 * 4096 * 2
    assert two == (one - ends) // 2 + ends // 2
    assert kv_bytes(ask(pipeline_parallel=2), 4096) * 2 == kv_bytes(ask(), 4096)


def test_a_tied_head_is_stored_twice_in_a_tensorrt_llm_checkpoint(ask: Asker) -> None:
    # SmolLM2-135M in float16: 325.7 MB, as modelopt wrote it (134.5 M parameters and the head).
    config = {
        "hidden_size": 576, "num_attention_heads": 9, "num_key_value_heads": 3, "head_dim": 64,
        "num_hidden_layers": 30, "intermediate_size": 1536, "vocab_size": 49152,
        "tie_word_embeddings": True,
    }  # fmt: skip
    assert checkpoint_bytes(ask(config=config)) == pytest.approx(325.7e6, rel=0.005)


def test_the_longest_sequences_are_the_longest(ask: Asker) -> None:
    asked = ask(batch=8)
    memory = memory_of(asked)
    most = largest_length(asked, memory)
    assert most is not None
    assert memory.capacity is not None
    free = memory.capacity - memory.weights
    assert kv_bytes(asked, most) * 8 <= free < kv_bytes(asked, most + 1) * 8


_CONFIG: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 4096, "num_attention_heads": 32,
    "num_key_value_heads": 8, "num_hidden_layers": 32, "intermediate_size": 11008,
    "vocab_size": 32000, "max_position_embeddings": 1 << 20,
}  # fmt: skip


@given(
    seq=st.integers(2, 1 << 18),
    batch=st.integers(1, 4096),
    degree=st.sampled_from([1, 2, 4, 8]),
    backend=st.sampled_from(["tensorrt-llm", "neuron"]),
)
def test_what_fits_still_fits_when_it_is_smaller(
    seq: int, batch: int, degree: int, backend: Any
) -> None:
    shape = shape_of(_CONFIG)
    assert shape is not None
    machine = "ml.p4d.24xlarge" if backend == "tensorrt-llm" else "ml.trn1.32xlarge"
    asked = Question(
        shape=shape, backend=backend, dtype="float16", method="none", kv_dtype="auto",
        tensor_parallel=degree, pipeline_parallel=1, batch=batch, input_len=seq - 1, seq_len=seq,
        num_tokens=None, instance=load_instance(machine),
    )  # fmt: skip
    memory = memory_of(asked)
    most = largest_batch_with_reserve(asked, memory)
    assert most is not None
    if holds(asked, memory):
        smaller = replace(asked, seq_len=max(2, seq // 2), input_len=max(1, seq // 2 - 1))
        assert holds(smaller, memory_of(smaller))
        if backend == "neuron":
            assert most >= batch
    if degree < 8:
        wider = replace(asked, tensor_parallel=2 * degree)
        assert memory_of(wider).weights < memory.weights


def test_an_encoder_is_bound_by_its_activations(ask: Asker) -> None:
    config = {
        "model_type": "bert", "hidden_size": 1024, "num_attention_heads": 16,
        "num_hidden_layers": 24, "intermediate_size": 4096, "vocab_size": 30522,
        "max_position_embeddings": 512, "architectures": ["BertForMaskedLM"],
    }  # fmt: skip
    asked = ask("ml.inf2.xlarge", backend="neuron", config=config, input_len=512, seq_len=512,
                batch=8, num_tokens=None)  # fmt: skip
    memory = memory_of(asked)
    assert memory.kv_cache == memory.logits == 0
    most = largest_batch_with_reserve(asked, memory)
    assert most is not None
    assert holds(replace(asked, batch=most), memory_of(replace(asked, batch=most)))
    assert not holds(replace(asked, batch=most + 1), memory_of(replace(asked, batch=most + 1)))
