"""A step: work as data, the same wherever it runs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from lmi_artifacts.digest import JSONValue
from lmi_recipes.toolchain import Image

Where = Literal["host", "toolchain", "device"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A function of ours, run by `lmi_compile.worker` in a child process.

    Attributes:
        function: `package.module:function`, called as `function(params, inputs, out)`.
        params: JSON that enters the key.
        data: dotted names of packages whose whole folder the function reads; they enter the key.
    """

    function: str
    params: Mapping[str, JSONValue] = field(default_factory=dict)
    data: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Argv:
    """A foreign tool's command line; never a shell string.

    Paths are named, so that no machine's path enters a key: `{out}` is the step's output
    directory, `{tmp}` a scratch directory that is gone afterwards, `{in:NAME}` the output
    directory of the step called NAME. The same names work in the step's `env`.
    """

    argv: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What a step needs of the machine it runs on, and how long it may take.

    Attributes:
        accelerator: a name such as `A10G`.
        accelerator_count: how many of them.
        memory_bytes: host memory.
        cores: host cores.
        timeout_seconds: after which the step is ended as failed; None waits for ever.
    """

    accelerator: str | None = None
    accelerator_count: int = 0
    memory_bytes: int | None = None
    cores: int | None = None
    timeout_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One unit of work with its own directory of outputs.

    Attributes:
        name: unique in its plan.
        run: what is run.
        env: environment variables beside the executor's own few; they enter the key.
        needs: names of the steps whose output directories it reads.
        outputs: files that must exist in the output directory afterwards.
        where: `host`, `toolchain` (the pinned image or environment) or `device` (the accelerator).
        resources: what it needs of the machine; outside the key.
        identity: the toolchain as far as it decides this step's bytes; enters the key.
        local_inputs: paths on this machine whose contents the params already name by digest;
            outside the key.
        explain: `package.module:function` that turns a foreign tool's last words into an error,
            called as `function(step, code, text)`; outside the key.
        tentative: an output that is there when this machine could not do the whole step, such as
            one without its device: a later build runs it again, and what needs it; outside the key.
        image: the toolchain's image, for an executor that runs in one; outside the key, where
            `identity` has as much of it as decides the bytes.
        network: it asks a hub or a bucket; outside the key.
        retry: exit codes after which another try is worth it where tries are left, beside 75 of
            sysexits.h; outside the key.
    """

    name: str
    run: Call | Argv
    env: Mapping[str, str] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    where: Where = "host"
    resources: Resources = field(default_factory=Resources)
    identity: Mapping[str, JSONValue] = field(default_factory=dict)
    local_inputs: Mapping[str, str] = field(default_factory=dict)
    explain: str = ""
    tentative: str | None = None
    image: Image | None = None
    network: bool = False
    retry: tuple[int, ...] = ()
