"""Settings say where and how to run, never what to build: flag > LMI_* > config file > default."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lmi_compile.errors import EnvironmentFault

_NAMES = ("cache_dir", "out", "registry", "offline")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where and how this run works.

    Attributes:
        cache_dir: the workspace's root.
        out: where results go.
        registry: a folder, or None: the recipe's own, else `<out>/registry`.
        offline: no step may use the network.
    """

    cache_dir: Path
    out: Path
    registry: str | None
    offline: bool


def load_settings(
    flags: Mapping[str, object], environ: Mapping[str, str] | None = None
) -> Settings:
    """Settings from flags, the environment and the config file, in that order.

    Args:
        flags: what the command line gave; None means not given.
        environ: the environment, `os.environ` by default.

    Raises:
        EnvironmentFault: the config file is unreadable or has an unknown setting.
    """
    environ = os.environ if environ is None else environ
    config = _config_file(environ)
    values: dict[str, object] = {}
    for name in _NAMES:
        for value in (flags.get(name), environ.get(f"LMI_{name.upper()}"), config.get(name)):
            if value not in (None, ""):
                values[name] = value
                break
    home = environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")  # noqa: PTH111, PTH118 - no home directory is not an error here
    registry = values.get("registry")
    return Settings(
        cache_dir=Path(str(values.get("cache_dir") or Path(home, "lmi-compile"))).absolute(),
        out=Path(str(values.get("out") or "out")).absolute(),
        registry=str(registry) if registry else None,
        offline=str(values.get("offline", "")).lower() in {"1", "true", "yes", "on"},
    )


def _config_file(environ: Mapping[str, str]) -> dict[str, object]:
    base = environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")  # noqa: PTH111, PTH118 - as above
    path = Path(environ.get("LMI_CONFIG") or Path(base, "lmi-compile", "config.toml"))
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    import tomllib  # noqa: PLC0415 - only when there is a file to read

    try:
        loaded = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise EnvironmentFault(f"{path} is not TOML", str(error), "correct it") from error
    unknown = sorted(set(loaded) - set(_NAMES))
    if unknown:
        what = f"{path}: unknown setting {', '.join(unknown)}"
        raise EnvironmentFault(what, fix=f"known are {', '.join(_NAMES)}")
    return loaded
