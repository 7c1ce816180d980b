"""The published reference tables as questions to the planner, with what was measured."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from lmi_compile.feasibility.families.find import shape_of
from lmi_compile.feasibility.question import Question
from lmi_compile.feasibility.shape import Shape
from lmi_recipes.target import load_instance

TABLES = Path(__file__).parents[1] / "tests" / "fixtures" / "reference-tables.json"
SWEEP = "p4d sweep"
REPLICAS = "g5.2xlarge replicas"
_SIZES = {"llama2-7b": (4096, 32, 32, 11008), "llama2-13b": (5120, 40, 40, 13824)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One figure of the tables: output tokens per second of `replicas` machines together."""

    table: str
    model: str
    question: Question
    replicas: int
    concurrency: int
    rate: float


def llama2(name: str) -> Shape:
    """Llama 2 by the tables' name for it."""
    hidden, heads, layers, intermediate = _SIZES[name]
    shape = shape_of({
        "model_type": "llama", "hidden_size": hidden, "num_attention_heads": heads,
        "num_hidden_layers": layers, "intermediate_size": intermediate, "vocab_size": 32000,
        "max_position_embeddings": 4096, "tie_word_embeddings": False,
    })  # fmt: skip
    assert shape is not None
    return shape


def question(model: str, instance: str, degree: int, total: int, output: int) -> Question:
    """What the tables ran: float16, a paged cache, no limit of the batch below 512."""
    return Question(
        shape=llama2(model), backend="tensorrt-llm", dtype="float16", method="none",
        kv_dtype="auto", tensor_parallel=degree, pipeline_parallel=1, batch=512,
        input_len=total - output, seq_len=total, num_tokens=max(8192, total),
        instance=load_instance(instance),
    )  # fmt: skip


def measured() -> Iterator[Measured]:
    """Every throughput of the tables; runs that timed out are left out."""
    tables = json.loads(TABLES.read_text(encoding="utf-8"))
    for row in tables["p4d_tensor_parallel_sweep"]:
        asked = question(row["model"], row["instance"], row["tensor_parallel_degree"],
                         row["total_tokens"], row["output_tokens"])  # fmt: skip
        yield from _rows(SWEEP, row["model"], asked, 1, tables["concurrency"], row)
    for row in tables["llama2_7b_by_instance"]:
        asked = question("llama2-7b", row["instance"], row["tensor_parallel_degree"],
                         row["total_tokens"], row["output_tokens"])  # fmt: skip
        name = f"{row['instance'].removeprefix('ml.')} {row['total_tokens']}"
        yield from _rows(name, "llama2-7b", asked, 1, tables["concurrency"], row)
    asked = question("llama2-7b", "ml.g5.2xlarge", 1, 512, 256)
    for row in tables["llama2_7b_replicas_g5_2xlarge"]:
        yield from _rows(REPLICAS, "llama2-7b", asked, row["instances"], row["concurrency"], row)


def worked(instance: str, flops: float, bandwidth: float) -> Question:
    """Llama 2 7B on a machine with figures of one's own, in 1e12 and 1e9 a second."""
    asked = question("llama2-7b", instance, 1, 4096, 256)
    machine = asked.instance
    assert machine is not None
    assert machine.accelerator is not None
    tflops = replace(machine.accelerator.tflops, fp16=flops)
    own = replace(machine.accelerator, tflops=tflops, memory_gbps=bandwidth)
    return replace(asked, instance=replace(machine, accelerator=own))


def _rows(
    table: str, model: str, asked: Question, replicas: int, concurrency: list[int],
    row: dict[str, list[float | None]],
) -> Iterator[Measured]:  # fmt: skip
    for clients, rate in zip(concurrency, row["throughput_tok_s"], strict=True):
        if rate is not None:
            yield Measured(table=table, model=model, question=asked, replicas=replicas,
                           concurrency=clients, rate=rate)  # fmt: skip
