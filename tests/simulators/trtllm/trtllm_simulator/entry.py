"""What the simulated executables run: `entry.py FOLDER TOOL ARGS...`."""

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parents[1]
sys.path.insert(0, str(HERE))

from trtllm_simulator import partition, scripts, trtllm_build  # noqa: E402 - found above
from trtllm_simulator.machine import FILE, Machine, fail, read_machine  # noqa: E402 - as above


def main(folder: Path, tool: str, argv: list[str]) -> int:
    """Run `tool`; returns its exit code."""
    machine = read_machine(folder)
    match tool:
        case "trtllm-build":
            trtllm_build.main(machine, argv)
        case "mpirun":
            return _mpirun(machine, folder, argv)
        case "python3":
            return _python3(machine, folder, argv)
    return 0


def _python3(machine: Machine, folder: Path, argv: list[str]) -> int:
    name = Path(argv[0]).name
    if name == "trt_llm_partition.py":
        partition.main(machine, argv[1:])
        return 0
    if name in {"convert_checkpoint.py", "quantize.py"}:
        scripts.main(machine, argv[0], argv[1:])
        return 0
    environment = os.environ | {"PYTHONPATH": str(HERE / "site"), FILE: str(folder)}
    return subprocess.run([sys.executable, *argv], env=environment, check=False).returncode


def _mpirun(machine: Machine, folder: Path, argv: list[str]) -> int:
    if argv[:1] != ["-n"] or argv[2:3] != ["--allow-run-as-root"]:
        fail("mpirun was unable to launch the specified application")
    world = int(argv[1])
    for rank in range(world):
        os.environ |= {"SIMULATED_RANK": str(rank), "SIMULATED_WORLD": str(world)}
        code = main(folder, argv[3], argv[4:])
        if code:
            return code
    del machine
    return 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:]))
