"""Toolchains: pinned data on what compiles, with which versions, and what serves the result."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

from lmi_recipes.errors import RecipeInvalid, UnknownToolchain
from lmi_recipes.fields import (
    Scalar,
    as_json,
    flag,
    many,
    mapping,
    one_of,
    optional,
    scalar,
    section,
    text,
    whole,
)
from lmi_recipes.jsonvalue import JSONValue
from lmi_recipes.model import BACKENDS, BackendName
from lmi_recipes.naming import DATA, file_named, names_in, nearest
from lmi_recipes.nodes import compose, plain
from lmi_recipes.problems import Mark, at
from lmi_recipes.textfile import read_text
from lmi_recipes.validation import check, locate

_FOLDER = DATA / "toolchains"
_DIGEST = optional(text("^sha256:[0-9a-f]{64}$", "sha256: and 64 hexadecimal digits"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """The container image that steps of a toolchain run in."""

    reference: Annotated[str, text(), "Name and tag."]
    digest: Annotated[str | None, _DIGEST, "As read from a registry; null when nobody did."] = None
    note: Annotated[str | None, optional(text()), "What to know about it."] = None
    root: Annotated[bool, flag(), "True where its tools run as root only."] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildsFor:
    """The hardware a toolchain can build for."""

    cpus: Annotated[tuple[str, ...], many(text()), "CPU targets by name."] = ()
    sm: Annotated[tuple[int, ...], many(whole(10, 999)), "CUDA architectures, 80 for sm_80."] = ()
    neuron: Annotated[tuple[str, ...], many(text()), "Neuron targets, such as trn2."] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingImage:
    """An image that serves what a toolchain makes."""

    reference: Annotated[str, text(), "Name and tag."]
    digest: Annotated[str | None, _DIGEST, "As read from a registry; null when nobody did."] = None
    built: Annotated[bool, flag(), "False until somebody has built or pulled it."] = True
    dockerfile: Annotated[
        str | None, optional(text()), "Where it is built from, relative to the repository."
    ] = None
    base: Annotated[str | None, optional(text()), "The image it is built on."] = None
    adds: Annotated[tuple[str, ...], many(text()), "Packages it adds to its base."] = ()
    note: Annotated[str | None, optional(text()), "What to know about it."] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Serves:
    """What serves the artifacts of a toolchain."""

    contract: Annotated[str, text(longest=4096), "What the container has to be, in words."]
    images: Annotated[
        tuple[ServingImage, ...], many(section(ServingImage)), "Images that fulfil it."
    ] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownBad:
    """A combination that is known not to work."""

    what: Annotated[str, text(), "The combination."]
    why: Annotated[str, text(longest=4096), "What happens."]
    source: Annotated[str, text(), "How this is known."]
    when: Annotated[
        Mapping[str, tuple[Scalar, ...]],
        mapping(many(scalar(), at_least=1)),
        "The recipes it holds for: dotted field to its bad values; empty: only people can say.",
    ] = field(default_factory=dict)
    instead: Annotated[
        str | None, optional(text()), "A `field=value` for --set that avoids it, where one does."
    ] = None

    def holds_for(self, recipe: Mapping[str, object]) -> bool:
        """Tell whether a resolved recipe is such a combination; False where only people can say."""
        return bool(self.when) and all(
            _value(recipe, name) in values for name, values in self.when.items()
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorRtLlm:
    """What a TensorRT-LLM toolchain's tools are like."""

    generation: Annotated[
        Literal["0.12", "0.20"], one_of("0.12", "0.20"), "Whose flags and Python interface it has."
    ]
    layout: Annotated[
        Literal["flat", "triton", "engine"],
        one_of("flat", "triton", "engine"),
        "Tree that its container reads: flat (LMI 0.33), triton (LMI 0.27 to 0.32), engine.",
    ]
    flags: Annotated[str, text(), "Version whose table of trtllm-build flags the argv is for."]
    flags_inferred: Annotated[
        bool, flag(), "True where that is a neighbour, not the version itself."
    ] = False
    engines: Annotated[bool, flag(), "False where engines can no longer be built."] = True
    scripts: Annotated[
        str | None,
        optional(text()),
        "TensorRT-LLM's source tree at the same version, where its steps run; not in the image.",
    ] = None
    partition_script: Annotated[
        str | None, optional(text()), "LMI's own script in the image, for route lmi-script."
    ] = None
    llm_class: Annotated[
        str | None, optional(text()), "Module of the LLM class that loads engines."
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Toolchain:
    """One pinned toolchain of one backend."""

    name: Annotated[str, text(), "Name, the same as the file's."]
    backend: Annotated[BackendName, one_of(*BACKENDS), "The backend that uses it."]
    description: Annotated[str, text(), "One line for people."]
    versions: Annotated[
        Mapping[str, str],
        mapping(text()),
        "Exact version by component; `host` is read where the step runs.",
    ]
    route: Annotated[
        str | None, optional(text()), "Which of its backend's ways it goes; null where one is."
    ] = None
    model_types: Annotated[
        tuple[str, ...], many(text()), "Model types it takes by config.json; empty: not listed."
    ] = ()
    image: Annotated[
        Image | None, optional(section(Image)), "Image its steps run in; null is the host."
    ] = None
    builds_for: Annotated[BuildsFor, section(BuildsFor), "Hardware it can build for."] = BuildsFor()
    serves: Annotated[Serves, section(Serves), "What serves its artifacts."]
    known_bad: Annotated[
        tuple[KnownBad, ...], many(section(KnownBad)), "Combinations known not to work."
    ] = ()
    tensorrt_llm: Annotated[
        TensorRtLlm | None,
        optional(section(TensorRtLlm)),
        "For the tensorrt-llm backend: what its tools are like.",
    ] = None
    simulated: Annotated[
        bool, flag(), "True marks every key and manifest; such artifacts are never published."
    ] = False
    sources: Annotated[tuple[str, ...], many(text()), "Where the data was read."] = ()

    def to_json(self) -> dict[str, JSONValue]:
        """Return the toolchain with every field present."""
        document = as_json(self)
        assert isinstance(document, dict)  # noqa: S101 - a section is always an object
        return document


def _value(recipe: Mapping[str, object], name: str) -> object:
    value: object = recipe
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def toolchain_names() -> tuple[str, ...]:
    """Return the names of the toolchains in the catalogue, sorted."""
    return names_in(_FOLDER)


def load_toolchain(name: str, extra: Sequence[Path] = ()) -> Toolchain:
    """Return a toolchain by name.

    Args:
        name: As a recipe names it.
        extra: Folders with more toolchain files, searched after the catalogue, so that none of
            them can stand in for a catalogued toolchain.

    Raises:
        UnknownToolchain: No folder has it.
        RecipeUnreadable: The file is not one YAML document.
        RecipeInvalid: The file breaks the schema, or its name is another.
    """
    for folder in (_FOLDER, *extra):
        path = file_named(name, folder)
        if path is not None:
            return _read(path, path.stat().st_mtime_ns)
    known = (*toolchain_names(), *(other for folder in extra for other in names_in(folder)))
    raise UnknownToolchain(name, nearest(name, known), known)


@lru_cache(maxsize=256)
def _read(path: Path, stamp: int) -> Toolchain:
    """Read a file once for each of its versions; many recipes name the same toolchain."""
    del stamp
    root, problems = compose(read_text(path), str(path))
    toolchain, wrong = check(Toolchain, plain(root), root)
    problems += wrong
    if toolchain is None or problems:
        raise RecipeInvalid(problems)
    if toolchain.name != path.stem:
        mark: Mark = locate(root, ("name",))[1]
        message = "must be the file's name"
        problem = at(mark, message, field="name", value=toolchain.name, nearest=path.stem)
        raise RecipeInvalid([problem])
    return toolchain
