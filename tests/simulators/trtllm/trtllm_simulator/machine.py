"""The machine that is simulated, and how a simulated tool fails."""

import json
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

FILE = "SIMULATED_TRTLLM"


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What is installed and which GPUs there are.

    Attributes:
        tensorrt_llm: version that is installed.
        tensorrt: its TensorRT.
        build_table: name of the trtllm-build table.
        script_table: name of the conversion scripts' table.
        partition_table: name of the partition script's table.
        sm: of every GPU.
        gpu: its name.
        gpus: how many.
        memory_bytes: of each.
        fail_rank: this rank's build fails.
        killed: the tool that the kernel kills.
    """

    tensorrt_llm: str
    tensorrt: str = "10.11.0.33"
    build_table: str = "1.2.0"
    script_table: str = "0.16.0.dev2024121000"
    partition_table: str = "0.33"
    sm: int = 86
    gpu: str = "NVIDIA A10G"
    gpus: int = 4
    memory_bytes: int = 24_000_000_000
    fail_rank: int | None = None
    killed: str | None = None


def read_machine(folder: Path) -> Machine:
    """The machine that `machine.json` in the executables' folder describes."""
    return Machine(**json.loads((folder / "machine.json").read_bytes()))


def fail(text: str) -> NoReturn:
    """End as a Python tool does that raised: its text, exit 1."""
    sys.stderr.write(f"{text}\n")
    raise SystemExit(1)


def unquoted(text: str) -> NoReturn:
    """End where the real tool fails too, but what it says is not known here."""
    fail(f"[simulator; the real tool's words are not known here] {text}")


def maybe_killed(machine: Machine, tool: str) -> None:
    """Be killed, if this machine's kernel does that to `tool`."""
    if machine.killed == tool:
        sys.stdout.write("Loading checkpoint shards\n")
        sys.stdout.flush()
        os.kill(os.getpid(), signal.SIGKILL)
