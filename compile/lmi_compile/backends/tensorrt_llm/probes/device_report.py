"""What is here: versions of TensorRT-LLM and TensorRT, and every GPU. Runs where they are.

usage: python3 device_report.py REPORT.json
"""

import json
import sys

import tensorrt
import tensorrt_llm  # noqa: TID253 - as above
import torch  # noqa: TID253 - as above


def main(report: str) -> None:
    """Write the report."""
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
    found = {
        "tensorrt_llm": tensorrt_llm.__version__,
        "tensorrt": tensorrt.__version__,
        "cuda": torch.version.cuda,
        "gpus": gpus,
    }
    with open(report, "w", encoding="utf-8") as file:  # noqa: PTH123 - a script of few imports
        json.dump(found, file)


if __name__ == "__main__":
    main(sys.argv[1])
