"""Options that verbs share, and what they open."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from lmi_compile.console import Console
from lmi_compile.executors.running import Running
from lmi_compile.settings import Settings, load_settings
from lmi_compile.step import Step
from lmi_compile.workspace import Staging, Workspace

if TYPE_CHECKING:
    from lmi_artifacts.registry import Registry
    from lmi_compile.pipeline import Tools

Command = TypeVar("Command", bound=Callable[..., object])

_SETTINGS = (
    click.option("--cache-dir", metavar="DIR", help="Where finished steps are kept."),
    click.option("--out", metavar="DIR", help="Where results go (default: ./out)."),
    click.option("--registry", metavar="DIR", help="Registry (default: <out>/registry)."),
    click.option("--offline", is_flag=True, default=None, help="No step may use the network."),
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


def tools_of(settings: Settings, registry: "Registry", console: Console) -> "Tools":
    """Everything that a build works with."""
    from lmi_compile.pipeline import Tools  # noqa: PLC0415 - `plan` builds nothing

    return Tools(
        workspace=Workspace(settings.cache_dir),
        execute=_Local(offline=settings.offline),
        registry=registry,
        emit=console.emit,
        golden=settings.registry is not None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Local:
    """The local executor, imported when the first step runs: a cache hit runs none."""

    offline: bool
    running: Running = field(default_factory=Running)

    def __call__(
        self,
        step: Step,
        inputs: Mapping[str, Path],
        staging: Staging,
        on_line: Callable[[str], None],
    ) -> None:
        from lmi_compile.executors.local import run_step  # noqa: PLC0415 - as said above

        run_step(step, inputs, staging, on_line, offline=self.offline, running=self.running)

    def cancel(self) -> None:
        """End every step that runs."""
        self.running.cancel()
