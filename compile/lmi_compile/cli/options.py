"""Options that verbs share, and what they open."""

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lmi_compile.console import Console
from lmi_compile.settings import EXECUTORS, NAMES, PLACES, Settings, load_settings

if TYPE_CHECKING:
    from lmi_artifacts.reference import ArtifactRef
    from lmi_artifacts.registry import Registry
    from lmi_compile.stepping import Tools

Verb = Callable[..., int]


DEMANDS = "What must hold: signed, verified, proven; separated by commas."


class Amount(click.ParamType[float]):
    """A number and its unit, such as 30d; a number alone is in the last unit, which is 1."""

    def __init__(self, name: str, units: Mapping[str, float]) -> None:
        self.name = name
        self._units = units

    def convert(
        self, value: str | float, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The amount in units of 1."""
        if not isinstance(value, str):
            return value
        number, unit = value[:-1], self._units.get(value[-1:].lower())
        if unit is None:
            number, unit = value, 1.0
        if not number.replace(".", "", 1).isdecimal():
            self.fail(f"{value}: write a number and one of {', '.join(self._units)}", param, ctx)
        return float(number) * unit


AGE = Amount("age", {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0})
SIZE = Amount("size", {"t": 1e12, "g": 1e9, "m": 1e6, "k": 1e3, "b": 1.0})

_SETTINGS = (
    click.option("--cache-dir", metavar="DIR", help="Where finished steps are kept."),
    click.option("--out", metavar="DIR", help="Where results go (default: ./out)."),
    click.option("--registry", metavar="DIR|S3URL", help="Default: <out>/registry."),
    click.option("--offline", is_flag=True, default=None, help="No step may use the network."),
)
_EXECUTOR = (
    click.option("--executor", type=click.Choice(EXECUTORS), help="Where steps run."),
    click.option("--image", metavar="REF", help="The steps' container image; NAME[@sha256:...]."),
    click.option("--pull", is_flag=True, default=None, help="Fetch an image that is not here."),
    click.option(
        "--container-mount",
        "container_mounts",
        multiple=True,
        type=click.Path(exists=True),
        help="A further folder that containers may read.",
    ),
    click.option("--ray-address", metavar="HOST:PORT", help="The Ray cluster."),
    click.option("--ray-store", metavar="URL", help="Registry that carries its steps' outputs."),
    click.option("--sagemaker-role", metavar="ARN", help="The role that SageMaker jobs run as."),
    click.option("--sagemaker-prefix", metavar="S3URL", help="Where SageMaker jobs keep files."),
)
_VOICE = (
    click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout."),
    click.option("-q", "--quiet", is_flag=True, help="Only errors on stderr."),
    click.option("-v", "--verbose", is_flag=True, help="Every line of every step on stderr."),
)
_ENDPOINT = (
    click.option("--region", help="AWS region of an endpoint."),
    click.option("--component", help="Inference component of an endpoint."),
    click.option("--timeout", default=300.0, show_default=True, help="Seconds between two pieces."),
)
set_option = click.option(
    "--set", "overrides", multiple=True, metavar="A.B=C", help="Change one field of the recipe."
)
toolchains_option = click.option(
    "--toolchains",
    multiple=True,
    type=click.Path(exists=True, file_okay=False),
    help="A further folder of toolchain files.",
)
keys_option = click.option(
    "--key",
    "keys",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A trusted public key (PEM); may be repeated.",
)
remote_code_option = click.option(
    "--trust-remote-code", is_flag=True, help="Accept a model that runs its own code."
)
why_option = click.option("--why", required=True, help="Kept on record, with who and when.")
layout_option = click.option(
    "--layout",
    type=click.Choice(["prefix", "tar.gz"]),
    default="prefix",
    help="The served tree as a folder, or as model.tar.gz.",
)


def settings_options(verb: Verb) -> Verb:
    """Add --cache-dir, --out, --registry and --offline; the verb gets them all as `settings`."""
    return _with(_SETTINGS, _settled(verb, PLACES))


def executor_options(verb: Verb) -> Verb:
    """Add the same, --executor and what the executors want to know: all of it is `settings`."""
    return _with((*_EXECUTOR, *_SETTINGS), _settled(verb, NAMES))


def _settled(verb: Verb, names: Sequence[str]) -> Verb:
    @wraps(verb)
    def with_settings(*args: object, **given: object) -> int:
        flags = {name: given.pop(name) for name in names if name in given}
        return verb(*args, settings=load_settings(flags), **given)

    return with_settings


def voice_options(verb: Verb) -> Verb:
    """Add --json, --quiet and --verbose; the verb gets them all as `console`."""

    @wraps(verb)
    def with_console(
        *args: object, as_json: bool, quiet: bool, verbose: bool, **given: object
    ) -> int:
        console = Console(as_json=as_json, quiet=quiet, verbose=verbose)
        return verb(*args, console=console, **given)

    return _with(_VOICE, with_console)


def endpoint_options(verb: Verb) -> Verb:
    """Add --region, --component and --timeout."""
    return _with(_ENDPOINT, verb)


def _with(options: Sequence[Callable[[Verb], Verb]], verb: Verb) -> Verb:
    for option in reversed(options):
        verb = option(verb)
    return verb


def registry_of(settings: Settings, recipes_own: str | None = None) -> "Registry":
    """The registry that was asked for, else the recipe's own, else the one under --out."""
    from lmi_artifacts.registry import open_registry  # noqa: PLC0415 - `plan` opens none

    return open_registry(settings.registry or recipes_own or str(settings.out / "registry"))


def standing(registry: "Registry", text: str) -> "ArtifactRef":
    """The artifact that a reference means, unless it was taken back.

    Raises:
        ArtifactsError: it means none, or several, or one that is revoked.
    """
    ref = registry.resolve(text)
    registry.refuse_revoked(ref)
    return ref


def tools_of(settings: Settings, registry: "Registry", console: Console) -> "Tools":
    """Everything that a build works with."""
    from lmi_compile.executors.choose import Chosen  # noqa: PLC0415 - most verbs build nothing
    from lmi_compile.stepping import Tools  # noqa: PLC0415 - as above
    from lmi_compile.workspace import Workspace  # noqa: PLC0415 - as above

    if hasattr(registry, "progress"):
        registry.progress = console.moved
    return Tools(
        workspace=Workspace(settings.cache_dir),
        execute=Chosen(settings, console.emit),
        registry=registry,
        emit=console.emit,
        golden=settings.registry is not None,
    )
