"""A Ray cluster on loopback: a head and further nodes, each a process group of its own."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from ports import free_ports

_START_SECONDS = 240.0
_STORE_BYTES = 80 << 20
_RAY = "from ray.scripts.scripts import main; main()"
# On loopback nobody else is there; no node may tell anybody that it exists; and what else runs on
# this machine may take all of its memory without Ray ending a worker for it.
ENV = {
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_memory_monitor_refresh_ms": "0",
}


@dataclass
class Cluster:
    """Running nodes by name; the head is called head. Each has a cache of its own.

    Attributes:
        home: the cluster's files.
        address: the head's.
        env: variables of every node.
        hidden: a folder that is empty for the nodes, as on another machine.
    """

    home: Path
    address: str
    env: Mapping[str, str]
    hidden: Path | None = None
    nodes: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    def add(self, name: str, cpus: int, resources: str = "{}", gpus: int = 0) -> None:
        """Start another node."""
        self._start(name, "--address", self.address, cpus=cpus, resources=resources, gpus=gpus)

    def head(self, cpus: int) -> None:
        port = self.address.rpartition(":")[2]
        self._start(
            "head", "--head", "--port", port, "--include-dashboard", "false",
            "--temp-dir", str(self.home), cpus=cpus,
        )  # fmt: skip

    def cache(self, name: str) -> Path:
        """Of a node."""
        return self.home / f"cache-{name}"

    def kill(self, name: str) -> None:
        """Kill a node: all of its processes, at once."""
        process = self.nodes.pop(name)
        for pid in _descendants(process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()

    def node_of(self, pid: int) -> str:
        """The node that a worker belongs to."""
        return next(name for name, node in self.nodes.items() if pid in _descendants(node.pid))

    def _start(
        self, name: str, *arguments: str, cpus: int, resources: str = "{}", gpus: int = 0
    ) -> None:
        log = self.home / f"{name}.log"
        with log.open("wb") as out:
            self.nodes[name] = subprocess.Popen(
                [*self._elsewhere(), sys.executable, "-c", _RAY, "start", *arguments,
                 "--node-ip-address", "127.0.0.1", "--block", "--num-cpus", str(cpus),
                 "--num-gpus", str(gpus), "--resources", resources,
                 "--object-store-memory", str(_STORE_BYTES), "--disable-usage-stats"],
                env={**os.environ, **self.env, "LMI_CACHE_DIR": str(self.cache(name))},
                stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                start_new_session=True,
            )  # fmt: skip
        until = time.monotonic() + _START_SECONDS
        while b"Ray runtime started" not in log.read_bytes():
            if self.nodes[name].poll() is not None or time.monotonic() > until:
                raise RuntimeError(log.read_text(errors="replace")[-2000:])
            time.sleep(0.1)

    def _elsewhere(self) -> list[str]:
        if self.hidden is None:
            return []
        script = 'mount -t tmpfs none "$0" && exec "$@"'
        return ["unshare", "--mount", "sh", "-c", script, str(self.hidden)]


@contextmanager
def ray_cluster(hidden: Path | None = None) -> Iterator[Cluster]:
    """A head with 2 cores; every process of every node is gone afterwards."""
    home = Path(tempfile.mkdtemp(prefix="lmiray"))
    (port,) = free_ports(1)
    cluster = Cluster(home, f"127.0.0.1:{port}", ENV, hidden)
    try:
        cluster.head(cpus=2)
        yield cluster
    finally:
        for name in [*cluster.nodes]:
            cluster.kill(name)
        shutil.rmtree(home, ignore_errors=True)


def _descendants(pid: int) -> list[int]:
    """`pid` and all that it started, by /proc."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                stat = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents.setdefault(int(stat[1]), []).append(int(entry.name))
    found = [pid]
    for one in found:
        found += parents.get(one, [])
    return found
