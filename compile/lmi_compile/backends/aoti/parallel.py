"""Which degrees of tensor parallelism a model has, and how its tensors divide among the ranks.

Light: planning reads it. Attention is split by heads, the MLP by its inner width, embedding and
head by the vocabulary. With fewer key/value heads than ranks, ranks hold copies of a head.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from lmi_artifacts.digest import JSONValue
from lmi_compile.errors import Unsupported

# Families whose layers divide by heads and inner width alone, each compared with the whole model
# in tests/unit/backends/aoti/test_sharding.py.
CARRIED = (
    "gemma", "gemma2", "gemma3_text", "granite", "llama", "mistral", "phi", "qwen2", "qwen3",
    "starcoder2",
)  # fmt: skip
DEGREE = "tensor_parallel_degree"
BUILD = "build.txt"  # beside the shards: what they have in common


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """How one stored tensor divides.

    Attributes:
        axis: The axis that is cut; None: every rank has the whole tensor.
        parts: How many different pieces there are: the degree, or less when ranks share copies.
        first_only: A bias that is added before the ranks' sums are: rank 0 has it, others zeros.
        full: The whole tensor's shape. The last part is padded with zeros where it does not divide.
    """

    axis: int | None
    parts: int
    first_only: bool
    full: tuple[int, ...]

    def to_json(self) -> dict[str, JSONValue]:
        """For `graphs.json`."""
        return {
            "axis": self.axis,
            "parts": self.parts,
            "first_only": self.first_only,
            "full": list(self.full),
        }


WHOLE = Split(axis=None, parts=1, first_only=False, full=())


def read_split(given: Mapping[str, JSONValue]) -> Split:
    """The split that `to_json` wrote."""
    full = given["full"]
    return Split(**{**given, "full": tuple(full if isinstance(full, list) else ())})  # type: ignore[arg-type]  # the fields of to_json


def shard_name(rank: int, degree: int) -> str:
    """The file of one rank's tensors; one rank's is the package's only one."""
    return "weights.safetensors" if degree == 1 else f"weights-{rank}-of-{degree}.safetensors"


def valid_degrees(config: Mapping[str, JSONValue]) -> tuple[int, ...]:
    """All degrees that divide a model of a family that is carried, by its config.json."""
    heads = _whole(config, "num_attention_heads")
    shared = _whole(config, "num_key_value_heads") or heads
    inner = _whole(config, "intermediate_size")
    return tuple(
        degree
        for degree in range(1, heads + 1)
        if heads % degree == 0
        and inner % degree == 0
        and (shared % degree == 0 or degree % shared == 0)
    )


def require_degree(config: Mapping[str, JSONValue], degree: int) -> None:
    """Refuses what does not divide.

    Args:
        config: The model's config.json.
        degree: What the recipe asks for.

    Raises:
        Unsupported: With the degrees that are valid.
    """
    if degree == 1:
        return
    family = str(config.get("model_type"))
    what = f"{DEGREE}: {degree} does not divide this model"
    if family not in CARRIED:
        why = f"the aoti backend splits {', '.join(CARRIED)}; this is {family}"
        raise Unsupported(what, why, f"set {DEGREE} to 1")
    valid = valid_degrees(config)
    if degree in valid:
        return
    told = {
        "attention heads": _whole(config, "num_attention_heads"),
        "key/value heads": _whole(config, "num_key_value_heads")
        or _whole(config, "num_attention_heads"),
        "inner width": _whole(config, "intermediate_size"),
    }
    why = "it has " + ", ".join(f"{name} {value}" for name, value in told.items())
    can = " or ".join(str(one) for one in valid)
    raise Unsupported(f"{what}, which {can} would", why, f"set {DEGREE} to {can}")


def _whole(config: Mapping[str, JSONValue], name: str) -> int:
    value = config.get(name)
    return value if isinstance(value, int) else 0
