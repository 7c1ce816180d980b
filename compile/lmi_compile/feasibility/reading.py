"""From a recipe to a question: the model's config.json, the machine, the toolchain."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from lmi_artifacts.digest import JSONValue
from lmi_compile.errors import CompileError, Unsupported
from lmi_compile.feasibility.families.find import shape_of
from lmi_compile.feasibility.question import Question, ask
from lmi_compile.feasibility.shape import Shape
from lmi_compile.models.source import DirectorySource, HubSource, PypiSource, parse_source
from lmi_compile.models.strict_json import read_object
from lmi_recipes.errors import RecipesError
from lmi_recipes.reading import LoadedRecipe
from lmi_recipes.target import load_instance
from lmi_recipes.toolchain import load_toolchain

if TYPE_CHECKING:
    from lmi_recipes.instance import Instance

_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "float64": 8}


def read_question(
    loaded: LoadedRecipe, toolchains: Sequence[Path] = (), cache: Path | None = None
) -> tuple[Question | None, str]:
    """The question that a recipe puts.

    Args:
        loaded: a valid recipe.
        toolchains: more folders of toolchain files.
        cache: where configs of hub models are kept; without it none is fetched.

    Returns:
        The question; or None with the reason, when there is no config.json to compute with.

    Raises:
        CompileError, RecipesError: the model's config, the instance type or the toolchain is
            wrong; when several are, one error says all of it.
    """
    recipe = loaded.recipe
    faults: list[CompileError | RecipesError] = []
    instance: Instance | None = None
    shape: Shape | None = None
    config: Mapping[str, JSONValue] | None = None
    try:
        if recipe.target.instance_type is not None:
            instance = load_instance(recipe.target.instance_type)
    except RecipesError as error:
        faults.append(error)
    try:
        if recipe.backend != "null":
            config, folder = _config(loaded, cache)
            shape = _shape(config, folder) if config is not None else None
    except CompileError as error:
        faults.append(error)
    try:
        toolchain = load_toolchain(recipe.toolchain, toolchains)
    except RecipesError as error:
        raise _together([*faults, error]) from None
    if faults:
        raise _together(faults)
    if shape is None or config is None:
        return None, "no config.json to compute with: name one under model.config"
    question = ask(recipe, toolchain, instance, shape)
    pypi = isinstance(parse_source(recipe.model.id, loaded.path.parent), PypiSource)
    return replace(question, model_bytes=None if pypi else _value_bytes(config)), ""


def read_config_of(loaded: LoadedRecipe, cache: Path) -> Mapping[str, JSONValue] | None:
    """The config.json of a recipe's model; None where it is not known before its files are here.

    Raises:
        CompileError: it is wrong, or a hub does not give it.
    """
    return _config(loaded, cache)[0]


def _shape(config: Mapping[str, JSONValue], folder: Path | None) -> Shape:
    shape = shape_of(config)
    if shape is not None:
        return shape
    from lmi_compile.feasibility.unknown import estimate  # noqa: PLC0415 - known families do not pay

    return estimate(config, folder)


def _together(faults: Sequence[CompileError | RecipesError]) -> CompileError | RecipesError:
    """One error for all of them."""
    if len(faults) == 1:
        return faults[0]
    fixes = [fault.fix for fault in faults if isinstance(fault, CompileError) and fault.fix]
    return Unsupported("; ".join(str(fault) for fault in faults), fix="; ".join(fixes))


def _config(
    loaded: LoadedRecipe, cache: Path | None
) -> tuple[Mapping[str, JSONValue] | None, Path | None]:
    """The model's config and the directory that its files are in; None where neither is here."""
    model = loaded.recipe.model
    source = parse_source(model.id, loaded.path.parent)
    folder = source.path if isinstance(source, DirectorySource) else None
    if model.config is not None:
        return _read(loaded.beside(model.config)), folder
    if folder is not None and (folder / "config.json").is_file():
        return _read(folder / "config.json"), folder
    if isinstance(source, HubSource) and cache is not None:
        from lmi_compile.models.hub import hub_config  # noqa: PLC0415 - only hub models need it

        return hub_config(source.id, model.revision, cache)[1], None
    return None, folder


def _read(path: Path) -> Mapping[str, JSONValue]:
    try:
        stamp = path.stat().st_mtime_ns
    except OSError:
        stamp = 0
    return _read_once(path, stamp)


@lru_cache(maxsize=64)
def _read_once(path: Path, stamp: int) -> Mapping[str, JSONValue]:
    del stamp
    return read_object(path)


def _value_bytes(config: Mapping[str, JSONValue]) -> int:
    """Bytes of a parameter in the model's own files; two where its config is silent."""
    kind = config.get("dtype") or config.get("torch_dtype")
    return _BYTES.get(kind, 2) if isinstance(kind, str) else 2
