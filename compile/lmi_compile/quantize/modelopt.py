"""Worker function: a TensorRT-LLM checkpoint from a Hugging Face model, by nvidia-modelopt on CPU.

modelopt runs in a process and from a folder of its own (`<environment>/modelopt`, or wherever the
environment has it): it and its dependencies come in touch with nothing else here. Its export was
removed in 0.49, so the version is exact.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import PathDistribution, distributions
from pathlib import Path

from lmi_artifacts.digest import JSONValue
from lmi_compile.errors import EnvironmentFault, ToolFailed
from lmi_compile.quantize.config_gate import config_faults
from lmi_compile.quantize.modelopt_version import VERSION

_PACKAGE = "nvidia-modelopt"
_OWN_FOLDER = "modelopt"
_LAST_LINES = 15


def run(params: Mapping[str, JSONValue], inputs: Mapping[str, Path], out: Path) -> None:
    """Writes `config.json` and `rank{N}.safetensors`, all or none.

    Args:
        params: `decoder`, `format`, `quant_algo`, `kv_cache_quant_algo`, `group_size`, `alpha`,
            `dtype`, `tp_size`, `num_samples`, `max_seq_len`.
        inputs: `model`, a Hugging Face directory; `calibration` where the format needs it.
        out: an empty directory.

    Raises:
        EnvironmentFault: modelopt is not here, or is another version.
        ToolFailed: modelopt failed, or wrote a checkpoint of another model.
    """
    site = find_modelopt()
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as scratch:
        made = Path(scratch) / "checkpoint"
        request: dict[str, JSONValue] = {
            "params": dict(params),
            "inputs": {name: str(path) for name, path in inputs.items()},
            "out": str(made),
        }
        run_child([request], Path(scratch), site)
        repair_config(made)
        check_config(made, inputs["model"], params)
        for path in sorted(made.iterdir()):
            shutil.move(path, out / path.name)


def check_config(made: Path, model: Path, params: Mapping[str, JSONValue]) -> None:
    """Hold a finished checkpoint's config.json against the model's.

    Raises:
        ToolFailed: it is another model's, such as one that lost its rotary base.
    """
    faults = config_faults(
        json.loads((model / "config.json").read_bytes()),
        json.loads((made / "config.json").read_bytes()),
        params,
    )
    if faults:
        raise ToolFailed(
            what="the checkpoint that modelopt wrote is not of this model",
            why="; ".join(faults),
            fix="report it: an engine of it would build and answer nonsense",
        )


def find_modelopt() -> Path | None:
    """The folder that has modelopt, or None when the environment itself has it.

    Raises:
        EnvironmentFault: it is in neither, or has another version.
    """
    own = Path(sys.prefix) / _OWN_FOLDER
    found = _version_in([str(own)]) if own.is_dir() else None
    place = own if found else None
    found = found or _version_in(sys.path)
    if found != VERSION:
        raise EnvironmentFault(
            what=f"the checkpoint step needs {_PACKAGE} {VERSION}",
            why=f"here it is {found}" if found else "it is not installed",
            fix=f"make dev, or: pip install --target {_OWN_FOLDER} {_PACKAGE}=={VERSION}"
            " without its dependency on torch, in the environment's folder",
        )
    return place


def _version_in(path: list[str]) -> str | None:
    for each in distributions(name=_PACKAGE, path=path):
        if isinstance(each, PathDistribution):
            return each.version
    return None


def run_child(requests: Sequence[JSONValue], scratch: Path, site: Path | None) -> None:
    """Make checkpoints in a process that may import modelopt.

    Args:
        requests: each with `params`, `inputs` and `out`, a directory that does not exist.
        scratch: where the request is written.
        site: from `find_modelopt`.

    Raises:
        ToolFailed: modelopt failed, or was killed.
    """
    request = scratch / "request.json"
    request.write_text(json.dumps(list(requests)), encoding="utf-8")
    search = [str(site)] if site else []
    code = f"import sys; sys.path[:0] = {search!r}; "
    code += "from lmi_compile.quantize.modelopt_child import main; main(sys.argv[1])"
    last: list[str] = []
    with subprocess.Popen(
        [sys.executable, "-P", "-W", "ignore", "-c", code, str(request)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        for line in process.stdout or ():
            last = [*last[1 - _LAST_LINES :], line.rstrip()]
            print(line.rstrip(), flush=True)  # noqa: T201 - a worker's progress is its stdout
    if process.returncode != 0:
        killed = process.returncode in {-9, 137}
        raise ToolFailed(
            what=f"modelopt {VERSION} failed"
            + (": it was killed, most likely for want of memory" if killed else ""),
            why="\n".join(last),
            fix="nothing of it was kept",
        )


def repair_config(made: Path) -> None:
    """Takes out what only modelopt's last rank meant, and says TensorRT-LLM's default logits."""
    (made / "quant_cfg.json").unlink(missing_ok=True)
    path = made / "config.json"
    config = json.loads(path.read_bytes())
    config.pop("rank", None)
    config["logits_dtype"] = "float32"
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
