"""What the probes share: their command line, the devices, and what they leave behind.

    python probe_<route>.py --tree DIR --reference DIR --request FILE --out DIR

`outputs.json` says whether anything ran and why not; where nothing could for want of a device there
is a file `without-device` beside it, so that a later build tries again. Python 3.9 and later.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

NO_DEVICE = "no Neuron device is here"
Ask = Callable[[argparse.Namespace], "dict[str, Any]"]


def devices() -> "list[str]":
    """The Neuron devices of this machine."""
    return sorted(path.name for path in Path("/dev").glob("neuron[0-9]*"))


def main(prog: str, arguments: "list[str]", ask: Ask, *, everywhere: bool = False) -> int:
    """Runs a probe; returns the exit code.

    Args:
        prog: the probe's name.
        arguments: its command line.
        ask: asks the tree and returns what goes into `outputs.json`: `reason` where it could not.
        everywhere: ask also where there is no device.
    """
    parser = argparse.ArgumentParser(prog=prog)
    for name in ("tree", "reference", "request", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    asked = parser.parse_args(arguments)
    here = devices()
    found = ask(asked) if here or everywhere else {"reason": NO_DEVICE}
    reason = found.get("reason", "")
    told = {"format": 1, "devices": here, "reason": reason, "ran": not reason, **found}
    (asked.out / "outputs.json").write_text(json.dumps(told, indent=1, sort_keys=True) + "\n")
    if reason and not here:
        (asked.out / "without-device").write_text(reason + "\n")
    print(reason or "the tree answered", flush=True)  # noqa: T201 - the step's log
    return 0


def tokens_of(request: Path) -> int:
    """How many tokens of each prompt are scored."""
    return int(json.loads(request.read_bytes())["tokens"])


def prompts_of(reference: Path, limit: int) -> "list[tuple[str, Any, Any]]":
    """Number, ids of the prompt, and the first `limit` ids of the reference's continuation."""
    import safetensors

    listed = json.loads((reference / "prompts.json").read_bytes())["prompts"]
    with safetensors.safe_open(str(reference / "prompts.safetensors"), framework="pt") as held:
        return [
            (
                f"{index:03d}",
                held.get_tensor(f"{index:03d}.input_ids"),
                held.get_tensor(f"{index:03d}.forced_ids")[:limit],
            )
            for index in range(len(listed))
        ]
