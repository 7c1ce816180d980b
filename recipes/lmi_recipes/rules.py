"""The rules between fields, and the values that follow from others.

Both work on the plain document, so that a rule still speaks when another field is wrong: a value
that is absent or of the wrong type reads as None and its rule is silent.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

from lmi_recipes.fields import sections_in
from lmi_recipes.model import Recipe, Shapes
from lmi_recipes.nodes import Path
from lmi_recipes.problems import closest
from lmi_recipes.sources import PYPI, PYPI_FORM, parse_pypi

# Properties that the package itself writes; a recipe that set one could break the contract.
OWNED = (
    "async_mode",
    "engine",
    "entryPoint",
    "maxWorkers",
    "minWorkers",
    "model_id",
    "rolling_batch",
    "tensor_parallel_degree",
)
_CALIBRATED = frozenset({"smoothquant", "fp8", "awq", "gptq"})
_KNOBS = ("smoothquant", "fp8")  # methods with a section of their own, of the same name
_GENERATING = frozenset({"text-generation", "text2text-generation"})

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Breach:
    """A rule that is broken, at the field that most likely has to change."""

    path: Path
    message: str
    nearest: str | None = None


def get(document: object, path: Path, kind: type[_T]) -> _T | None:
    """Return the value at `path` when it is there and of exactly this type, else None."""
    for part in path:
        if not isinstance(document, dict) or part not in document:
            return None
        document = document[part]
    return document if type(document) is kind else None


def resolve(document: dict[str, object]) -> None:
    """Fill in, in place, the values that follow from other fields."""
    shapes = get(document, ("shapes",), dict)
    seq = get(document, ("shapes", "max_seq_len"), int)
    if shapes is not None and seq is not None and "max_input_len" not in shapes:
        task = get(document, ("model", "task"), str) or "text-generation"
        shapes["max_input_len"] = max(1, seq - 1) if task in _GENERATING else seq
    quantization = get(document, ("quantization",), dict)
    method = get(document, ("quantization", "method"), str)
    if quantization is not None and method in _KNOBS:
        quantization.setdefault(method, {})
    if quantization is not None and method in _CALIBRATED and not _scales_itself(document):
        quantization.setdefault("calibration", {})


def _scales_itself(document: dict[str, object]) -> bool:
    """Tell whether FP8 needs no calibration: no scale is fixed before a token is there."""
    per_token = get(document, ("quantization", "fp8", "per_token"), bool)
    return bool(per_token) and get(document, ("quantization", "kv_cache_dtype"), str) != "fp8"


def breaches(document: dict[str, object]) -> Iterator[Breach]:
    """Yield every rule between fields that the document breaks."""
    for rule in _RULES:
        yield from rule(document)


def _one_target(document: dict[str, object]) -> Iterator[Breach]:
    target = get(document, ("target",), dict)
    if target is None:
        return
    given = [name for name in ("instance_type", "cpu") if target.get(name) is not None]
    if len(given) != 1:
        message = "needs exactly one of instance_type and cpu"
        yield Breach(path=("target",), message=message)


def _lengths(document: dict[str, object]) -> Iterator[Breach]:
    prompt = get(document, ("shapes", "max_input_len"), int)
    total = get(document, ("shapes", "max_seq_len"), int)
    if total is None and "max_seq_len" not in (get(document, ("shapes",), dict) or {}):
        total = Shapes().max_seq_len
    if prompt is not None and total is not None and prompt > total:
        message = f"is above max_seq_len, {total}, which counts prompt and answer together"
        yield Breach(path=("shapes", "max_input_len"), message=message)


def _model_id(document: dict[str, object]) -> Iterator[Breach]:
    model_id = get(document, ("model", "id"), str)
    if model_id is None or "://" not in model_id:
        return
    if not model_id.startswith(PYPI):
        if not model_id.startswith("s3://"):
            message = "must be a hub id, a directory, s3://... or pypi://..."
            yield Breach(path=("model", "id"), message=message)
        return
    if parse_pypi(model_id) is None:
        yield Breach(path=("model", "id"), message=f"must have the form {PYPI_FORM}")
    if (get(document, ("model",), dict) or {}).get("sha256") is None:
        message = "is required for pypi://: the SHA-256 of the wheel"
        yield Breach(path=("model", "sha256"), message=message)


def _config(document: dict[str, object]) -> Iterator[Breach]:
    config = get(document, ("model", "config"), str)
    if config is not None and config.startswith(("/", "~")):
        message = "must be relative to the recipe, so that the recipe means the same everywhere"
        yield Breach(path=("model", "config"), message=message)


def _knobs(document: dict[str, object]) -> Iterator[Breach]:
    quantization = get(document, ("quantization",), dict) or {}
    method = quantization.get("method", "none")
    for name in _KNOBS:
        if name != method and quantization.get(name) is not None:
            message = f"has no meaning with method {method}"
            yield Breach(path=("quantization", name), message=message)


def _buckets(document: dict[str, object]) -> Iterator[Breach]:
    for name in ("prefill", "decode"):
        path = ("shapes", "buckets", name)
        buckets = get(document, path, list)
        if buckets is None or not all(type(bucket) is int for bucket in buckets):
            continue
        if any(one >= two for one, two in pairwise(buckets)):
            yield Breach(path=path, message="must ascend, without repeats")


def _layouts(document: dict[str, object]) -> Iterator[Breach]:
    layouts = get(document, ("package", "layouts"), list) or []
    for number, layout in enumerate(layouts):
        if layout in layouts[:number]:
            path = ("package", "layouts", number)
            yield Breach(path=path, message="names a layout twice")


def _runtime(document: dict[str, object]) -> Iterator[Breach]:
    owned = {name.lower() for name in OWNED}
    for name, value in (get(document, ("runtime",), dict) or {}).items():
        path = ("runtime", name)
        bare = str(name).removeprefix("option.")
        if bare.lower() in owned:
            message = f"is written by the package itself, as are {', '.join(OWNED)}"
            yield Breach(path=path, message=message)
        elif bare != name:
            message = "is written as option.* already; leave the prefix out"
            yield Breach(path=path, message=message, nearest=bare)
        if isinstance(value, str) and not _is_property(value):
            message = (
                "must be printable ASCII without a backslash and without blanks at its ends,"
                " which serving.properties cannot carry"
            )
            yield Breach(path=path, message=message)


def _is_property(value: str) -> bool:
    """Tell whether both readers of serving.properties read this value the same."""
    return value.isascii() and value.isprintable() and "\\" not in value and value == value.strip()


def _matrix(document: dict[str, object]) -> Iterator[Breach]:
    fields = get(document, ("matrix",), dict) or {}
    known = field_paths(Recipe) if fields else ()
    for name in fields:
        if name not in known and not str(name).startswith(("runtime.", "verify.gates.")):
            nearest = closest(str(name), known)
            yield Breach(path=("matrix", name), message="is no field of a recipe", nearest=nearest)


def field_paths(cls: type, prefix: str = "") -> tuple[str, ...]:
    """Return the dotted paths of every field below a section that is no section itself."""
    inner = sections_in(cls)
    paths: list[str] = []
    for name in cls.__annotations__:
        if name in inner:
            paths += field_paths(inner[name], f"{prefix}{name}.")
        else:
            paths.append(prefix + name)
    return tuple(paths)


_RULES: tuple[Callable[[dict[str, object]], Iterator[Breach]], ...] = (
    _one_target,
    _lengths,
    _model_id,
    _config,
    _knobs,
    _buckets,
    _layouts,
    _runtime,
    _matrix,
)
