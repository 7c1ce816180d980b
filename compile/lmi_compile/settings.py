"""Settings say where and how to run, never what to build: flag > LMI_* > config file > default."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lmi_compile.errors import EnvironmentFault

EXECUTORS = ("local", "container", "ray", "ray+container", "sagemaker")
PLACES = ("cache_dir", "out", "registry", "offline")
NAMES = (
    *PLACES,
    "executor",
    "image",
    "pull",
    "container_mounts",
    "ray_address",
    "ray_store",
    "sagemaker_role",
    "sagemaker_prefix",
    "sagemaker_poll_seconds",
)
_YES = {"1", "true", "yes", "on"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where and how this run works.

    Attributes:
        cache_dir: the workspace's root.
        out: where results go.
        registry: a folder, or None: the recipe's own, else `<out>/registry`.
        offline: no step may use the network.
        executor: one of EXECUTORS.
        image: the container image of steps whose toolchain names none, or where a mirror has it.
        pull: an image that is not here is fetched.
        container_mounts: further folders that a container may read.
        ray_address: of the cluster; None lets Ray find one.
        ray_store: a registry's URL, for outputs of steps to travel through; None: every node
            mounts the cache.
        sagemaker_role: the role that a job runs as.
        sagemaker_prefix: where in S3 a job's inputs and outputs go.
        sagemaker_poll_seconds: between two looks at a job.
    """

    cache_dir: Path
    out: Path
    registry: str | None
    offline: bool
    executor: str = "local"
    image: str | None = None
    pull: bool = False
    container_mounts: tuple[Path, ...] = ()
    ray_address: str | None = None
    ray_store: str | None = None
    sagemaker_role: str | None = None
    sagemaker_prefix: str | None = None
    sagemaker_poll_seconds: float = 15.0


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
    for name in NAMES:
        for value in (flags.get(name), environ.get(f"LMI_{name.upper()}"), config.get(name)):
            if value not in (None, "", ()):
                values[name] = value
                break
    home = environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")  # noqa: PTH111, PTH118 - no home directory is not an error here
    return Settings(
        cache_dir=Path(str(values.get("cache_dir") or Path(home, "lmi-compile"))).absolute(),
        out=Path(str(values.get("out") or "out")).absolute(),
        registry=_text(values, "registry"),
        offline=_flag(values, "offline"),
        executor=_text(values, "executor") or "local",
        image=_text(values, "image"),
        pull=_flag(values, "pull"),
        container_mounts=_folders(values.get("container_mounts")),
        ray_address=_text(values, "ray_address"),
        ray_store=_text(values, "ray_store"),
        sagemaker_role=_text(values, "sagemaker_role"),
        sagemaker_prefix=_text(values, "sagemaker_prefix"),
        sagemaker_poll_seconds=_seconds(values, "sagemaker_poll_seconds", 15.0),
    )


def _text(values: Mapping[str, object], name: str) -> str | None:
    value = values.get(name)
    return str(value) if value else None


def _flag(values: Mapping[str, object], name: str) -> bool:
    return str(values.get(name, "")).lower() in _YES


def _seconds(values: Mapping[str, object], name: str, default: float) -> float:
    text = _text(values, name)
    try:
        return default if text is None else float(text)
    except ValueError as error:
        raise EnvironmentFault(f"{name} is {text}", fix="give a number of seconds") from error


def _folders(value: object) -> tuple[Path, ...]:
    """Folders from a flag's or a file's list, or from a variable like PATH."""
    listed = value if isinstance(value, list | tuple) else str(value or "").split(os.pathsep)
    return tuple(Path(str(folder)).absolute() for folder in listed if folder)


def _config_file(environ: Mapping[str, str]) -> dict[str, object]:
    base = environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")  # noqa: PTH111, PTH118 - as above
    path = Path(environ.get("LMI_CONFIG") or Path(base, "lmi-compile", "config.toml"))
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise EnvironmentFault(f"{path} cannot be read", str(error), "correct it") from error
    import tomllib  # noqa: PLC0415 - only when there is a file to read

    try:
        loaded = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise EnvironmentFault(f"{path} is not TOML", str(error), "correct it") from error
    unknown = sorted(set(loaded) - set(NAMES))
    if unknown:
        what = f"{path}: unknown setting {', '.join(unknown)}"
        raise EnvironmentFault(what, fix=f"known are {', '.join(NAMES)}")
    return loaded
