"""What is here, and whether it is what the toolchain says. Runs where TensorRT-LLM is installed.

usage: python3 device_report.py REPORT.json EXPECTED

EXPECTED is JSON: `versions` by package (`host` is any), `sm` and number of `gpus`. A difference
is printed behind the word that failures.py knows, and ends with exit 8: a wrong place leaves no
report behind that a later run could take for its own.
"""

import json
import sys

WORD = "NOT WHAT THE TOOLCHAIN SAYS:"
WRONG_PLACE = 8


def main(report: str, expected: str) -> int:
    """Write the report; returns the exit code."""
    found = read()
    wrong = differences(found, json.loads(expected))
    if wrong:
        print(WORD, "; ".join(wrong), flush=True)  # noqa: T201 - a script's words
        return WRONG_PLACE
    with open(report, "w", encoding="utf-8") as file:  # noqa: PTH123 - a script of few imports
        json.dump(found, file)
    return 0


def read():
    """Versions of TensorRT-LLM and TensorRT, and every GPU."""
    import tensorrt  # noqa: PLC0415 - where it is installed
    import tensorrt_llm
    import torch

    gpus = []
    for number in range(torch.cuda.device_count()):
        major, minor = torch.cuda.get_device_capability(number)
        properties = torch.cuda.get_device_properties(number)
        gpus.append(
            {
                "name": torch.cuda.get_device_name(number),
                "sm": 10 * major + minor,
                "memory_bytes": properties.total_memory,
            }
        )
    return {
        "tensorrt_llm": tensorrt_llm.__version__,
        "tensorrt": tensorrt.__version__,
        "cuda": torch.version.cuda,
        "gpus": gpus,
    }


def differences(found, expected):
    """What of `found` is not as `expected`, in words."""
    wrong = [
        f"{name} is {found.get(name)}, pinned is {expected['versions'][name]}"
        for name in ("tensorrt_llm", "tensorrt")
        if expected["versions"].get(name) not in {None, "host", found.get(name)}
    ]
    gpus, asked, sm = found["gpus"], expected["gpus"], expected["sm"]
    if len(gpus) < asked:
        wrong.append(f"{len(gpus)} GPUs are visible, {asked} are needed")
    wrong += [
        f"GPU {number} ({gpu['name']}) is SM {gpu['sm']}, the target is SM {sm}"
        for number, gpu in enumerate(gpus[:asked])
        if gpu["sm"] != sm
    ]
    return wrong


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1], sys.argv[2]))
