"""Worker function: holds the place where engines are built against the toolchain's pins."""

import json
from collections.abc import Mapping
from pathlib import Path

from lmi_artifacts.digest import JSONValue
from lmi_compile.errors import EnvironmentFault

_COMPARED = ("tensorrt_llm", "tensorrt")


def run(params: Mapping[str, JSONValue], inputs: Mapping[str, Path], out: Path) -> None:
    """Writes `ground.json`, what was found, when it is what the toolchain says.

    Args:
        params: `toolchain`, its `versions`, the `sm` and number of `gpus` asked for.
        inputs: `device`, with `device.json`.
        out: an empty directory.

    Raises:
        EnvironmentFault: another version, another GPU, or too few of them.
    """
    found = json.loads((inputs["device"] / "device.json").read_bytes())
    pinned = params["versions"]
    assert isinstance(pinned, Mapping)  # noqa: S101 - written by this backend's own plan
    wrong = [
        f"{name} is {found.get(name)}, pinned is {pinned[name]}"
        for name in _COMPARED
        if pinned.get(name) not in {None, "host", found.get(name)}
    ]
    gpus = found.get("gpus") or []
    asked, sm = int(str(params["gpus"])), int(str(params["sm"]))
    if len(gpus) < asked:
        wrong.append(f"{len(gpus)} GPUs are visible, {asked} are needed")
    wrong += [
        f"GPU {number} ({gpu['name']}) is SM {gpu['sm']}, the target is SM {sm}"
        for number, gpu in enumerate(gpus[:asked])
        if gpu["sm"] != sm
    ]
    if wrong:
        raise EnvironmentFault(
            what=f"this is not what toolchain {params['toolchain']} builds with",
            why="; ".join(wrong),
            fix="run it in the toolchain's image on the target's instance family: an engine loads"
            " on no other GPU architecture and with no other version",
        )
    (out / "ground.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
