"""What is asked: one model, one way to build it, one machine."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lmi_compile.feasibility.shape import Shape
from lmi_compile.feasibility.tables import BACKEND_FACTS, BackendFacts
from lmi_recipes.model import BackendName, Dtype, KvCacheDtype, QuantizationMethod, Recipe
from lmi_recipes.toolchain import Toolchain

if TYPE_CHECKING:
    from lmi_recipes.instance import Instance


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A recipe as far as the arithmetic reads it; `dataclasses.replace` asks another one.

    Attributes:
        instance: the machine; None for a CPU level, whose memory nobody states.
        batch, input_len, seq_len: the recipe's limits.
        num_tokens: tokens in one step; None leaves it to the backend.
        sm: architectures the toolchain builds for; empty says nothing.
        neuron: Neuron targets the toolchain builds for; empty says nothing.
        model_bytes: of one parameter in the model's own files; None when that is not known.
    """

    shape: Shape
    backend: BackendName
    dtype: Dtype
    method: QuantizationMethod
    kv_dtype: KvCacheDtype
    tensor_parallel: int
    pipeline_parallel: int
    batch: int
    input_len: int
    seq_len: int
    num_tokens: int | None
    instance: "Instance | None"
    toolchain: str = ""
    sm: tuple[int, ...] = ()
    neuron: tuple[str, ...] = ()
    model_bytes: int | None = 2

    @property
    def vendors(self) -> tuple[str, ...]:
        """Whose accelerators it runs on, which the toolchain may decide; empty for the CPU."""
        return ("nvidia",) if self.sm else self.facts.vendors

    @property
    def facts(self) -> BackendFacts:
        """What the backend does with memory."""
        return BACKEND_FACTS[self.backend]

    @property
    def is_paged(self) -> bool:
        """Whether sequences share a cache by pages; a model without a cache does not."""
        return self.facts.cache == "paged" and self.shape.generates

    @property
    def ranks(self) -> int:
        """Devices that one replica takes."""
        return self.tensor_parallel * self.pipeline_parallel

    @property
    def rank_bytes(self) -> int | None:
        """Memory of one device; None when it is not known."""
        if self.instance is None or self.instance.accelerator is None:
            return None
        return self.instance.accelerator.rank_bytes

    @property
    def output_len(self) -> int:
        """Tokens that an answer has at most."""
        return max(1, self.seq_len - self.input_len)


def ask(
    recipe: Recipe, toolchain: Toolchain, instance: "Instance | None", shape: Shape
) -> Question:
    """The question that a recipe puts."""
    return Question(
        shape=shape,
        backend=recipe.backend,
        dtype=recipe.dtype,
        method=recipe.quantization.method,
        kv_dtype=recipe.quantization.kv_cache_dtype,
        tensor_parallel=recipe.tensor_parallel_degree,
        pipeline_parallel=recipe.pipeline_parallel_degree,
        batch=recipe.shapes.max_batch_size,
        input_len=recipe.shapes.max_input_len,
        seq_len=recipe.shapes.max_seq_len,
        num_tokens=recipe.shapes.max_num_tokens,
        instance=instance,
        toolchain=toolchain.name,
        sm=toolchain.builds_for.sm,
        neuron=toolchain.builds_for.neuron,
    )
