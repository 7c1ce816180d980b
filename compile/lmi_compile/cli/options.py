"""Options that verbs share, and what they open."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeVar

import click

from lmi_compile.console import Console
from lmi_compile.settings import EXECUTORS, Settings, load_settings

if TYPE_CHECKING:
    from lmi_artifacts.reference import ArtifactRef
    from lmi_artifacts.registry import Registry
    from lmi_compile.pipeline import Tools

Command = TypeVar("Command", bound=Callable[..., object])

_SETTINGS = (
    click.option("--cache-dir", metavar="DIR", help="Where finished steps are kept."),
    click.option("--out", metavar="DIR", help="Where results go (default: ./out)."),
    click.option("--registry", metavar="DIR", help="Registry (default: <out>/registry)."),
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
set_option = click.option(
    "--set", "overrides", multiple=True, metavar="A.B=C", help="Change one field of the recipe."
)
toolchains_option = click.option(
    "--toolchains",
    multiple=True,
    type=click.Path(exists=True, file_okay=False),
    help="A further folder of toolchain files.",
)


def settings_options(function: Command) -> Command:
    """Add --cache-dir, --out, --registry and --offline."""
    for option in reversed(_SETTINGS):
        function = option(function)
    return function


def executor_options(function: Command) -> Command:
    """Add --executor and what the executors want to know; they are settings, too."""
    for option in reversed(_EXECUTOR):
        function = option(function)
    return function


def voice_options(function: Command) -> Command:
    """Add --json, --quiet and --verbose."""
    for option in reversed(_VOICE):
        function = option(function)
    return function


def read_settings(**flags: object) -> Settings:
    """Settings from these flags, the environment, the config file and the defaults."""
    return load_settings(flags)


def registry_of(settings: Settings, recipes_own: str | None = None) -> "Registry":
    """The registry that was asked for, else the recipe's own, else the one under --out."""
    from lmi_artifacts.registry import open_registry  # noqa: PLC0415 - `plan` opens none

    return open_registry(settings.registry or recipes_own or str(settings.out / "registry"))


def opened(
    flags: Mapping[str, object], *, quiet: bool, verbose: bool
) -> tuple[Console, "Registry"]:
    """What a verb on a registry speaks with, and the registry that its flags name."""
    return Console(quiet=quiet, verbose=verbose), registry_of(read_settings(**flags))


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
    from lmi_compile.pipeline import Tools  # noqa: PLC0415 - as above
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
