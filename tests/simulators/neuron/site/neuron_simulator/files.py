"""Files that the real tools leave: TorchScript archives, weights by rank, cache entries."""

import hashlib
import json
import struct
import zipfile
from pathlib import Path
from typing import Any

from neuron_simulator import base
from neuron_simulator.base import NOT_A_NEFF

# aws/deep-learning-containers, commit 5b2947ff18: the LMI 0.30 image.
_OLDER = {"2.20.1": "2.15.141.0"}


def torchscript(path: Path, graphs: list[str]) -> None:
    """An archive with the members of a TorchScript file; the graphs are no NEFFs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("constants.pkl", "data.pkl", "version", "code/__torch__.py"):
            archive.writestr(zipfile.ZipInfo(f"model/{name}"), b"")
        for graph in graphs:
            archive.writestr(zipfile.ZipInfo(f"model/neff/{graph}"), NOT_A_NEFF)


def weights(path: Path, rank: int) -> None:
    """A safetensors file of one small tensor."""
    path.parent.mkdir(parents=True, exist_ok=True)
    entry = {"dtype": "I32", "shape": [1], "data_offsets": [0, 4]}
    header = json.dumps({"rank_util.rank": entry}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + struct.pack("<i", rank))


def compiler_version() -> str:
    release = base.machine()["sdk"]
    known = base.table("hardware")["releases"]
    return str(_OLDER.get(release) or known.get(release, {}).get("neuronx-cc", "none"))


def cache_entry(root: Path, hlo: str, flags: list[str]) -> Path:
    """`neuronxcc-<version>+<commit>/MODULE_<20>+<8>/` with what a finished entry holds."""
    written = json.dumps(flags)
    key = hashlib.sha256((hlo + "".join(flags)).encode()).hexdigest()[:20]
    short = hashlib.md5(written.encode(), usedforsecurity=False).hexdigest()[:8]
    folder = root / f"neuronxcc-{compiler_version()}+simulat" / f"MODULE_{key}+{short}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.hlo_module.pb").write_bytes(hlo.encode())
    (folder / "compile_flags.json").write_text(written)
    (folder / "model.neff").write_bytes(NOT_A_NEFF + hlo.encode())
    (folder / "model.done").write_bytes(b"")
    return folder


def saved_graph(folder: Path, entry: Path) -> None:
    """A NEFF as transformers-neuronx saves it: under its graph's digest."""
    digest = hashlib.sha256((entry / "model.hlo_module.pb").read_bytes()).hexdigest()[:20]
    (folder / f"{digest}.neff").write_bytes((entry / "model.neff").read_bytes())


def work_folder(root: Path, tag: str, bucket: int) -> None:
    """NxD Inference's intermediates: `<tag>/_tp0_bk<n>/`."""
    folder = root / tag / f"_tp0_bk{bucket}"
    (folder / "model").mkdir(parents=True, exist_ok=True)
    (folder / "model" / "graph.hlo").write_bytes(b"")
    (folder / "graph.neff").write_bytes(NOT_A_NEFF)
    (folder / "log-neuron-cc.txt").write_text("")


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n")
