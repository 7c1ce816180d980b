"""A container engine of the tests' own: Debian's dockerd, without a network, and local images."""

import contextlib
import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import docker

_START_SECONDS = 240.0
TOOLS = "/opt/tools"


def missing() -> str | None:
    """Why no engine can run here, or None."""
    if os.getuid() != 0:
        return "needs root for a container engine"
    if shutil.which("dockerd") is None:
        return "needs dockerd"
    return None


def host_mounts() -> list[Path]:
    """What this Python, the compiler and the simulators need, mounted into an empty image."""
    wanted = ["/usr", "/lib", "/lib64", "/bin", sys.base_prefix, sys.prefix]
    wanted += [path for path in sys.path if path.endswith("-packages")]
    wanted.append(str(Path(__file__).parents[1] / "simulators"))
    kept: list[Path] = []
    for path in map(Path, dict.fromkeys(wanted)):
        if path.exists() and not any(path.is_relative_to(other) for other in kept):
            kept.append(path)
    return kept


@dataclass(frozen=True)
class Engine:
    """A running engine."""

    url: str
    log: Path
    pid: int

    @cached_property
    def client(self) -> Any:
        return docker.DockerClient(base_url=self.url)

    def names(self) -> list[str]:
        """The containers there are, stopped ones too."""
        return [item["Names"][0] for item in self.client.api.containers(all=True)]

    def make_image(self, name: str, *folders: Path, tools: Path | None = None) -> str:
        """An image of `folders` and the programs in `tools`; returns its id.

        The folders keep their paths; the programs lie in `TOOLS`, first on PATH.
        """
        tar = io.BytesIO()
        with tarfile.open(fileobj=tar, mode="w") as archive:
            scratch = tarfile.TarInfo("tmp")
            scratch.type, scratch.mode = tarfile.DIRTYPE, 0o1777
            archive.addfile(scratch)
            for folder in folders:
                archive.add(folder, filter=_without_caches)
            for path in sorted(tools.iterdir()) if tools else ():
                content = path.read_text(encoding="utf-8").replace(str(tools), TOOLS).encode()
                entry = tarfile.TarInfo(f"{TOOLS}/{path.name}".lstrip("/"))
                entry.size, entry.mode = len(content), 0o755
                archive.addfile(entry, io.BytesIO(content))
        search = ":".join((TOOLS, str(Path(sys.executable).parent), "/usr/bin", "/bin"))
        self.client.api.import_image(
            src=io.BytesIO(tar.getvalue()),
            repository=name,
            tag="latest",
            changes=[f"ENV PATH={search}"],
        )
        return str(self.client.images.get(f"{name}:latest").id)


def _without_caches(item: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if "__pycache__" in item.name else item


@contextmanager
def dockerd() -> Iterator[Engine]:
    """Run an engine in a folder of its own; it and all its containers are gone afterwards."""
    home = Path(tempfile.mkdtemp(prefix="lmidk"))
    url = f"unix://{home}/s"
    log = home / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            ["/usr/bin/env", "dockerd", "--host", url,
             "--data-root", home / "data", "--exec-root", home / "exec",
             "--pidfile", home / "pid", "--iptables=false", "--ip6tables=false", "--bridge=none",
             "--storage-driver=overlay2"],
            stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
        )  # fmt: skip
    engine = Engine(url, log, process.pid)
    try:
        _wait(process, url, log)
        yield engine
    finally:
        _stop(process, engine)
        shutil.rmtree(home, ignore_errors=True)


def _wait(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        with socket.socket(socket.AF_UNIX) as asked, contextlib.suppress(OSError):
            asked.settimeout(5)
            asked.connect(url.removeprefix("unix://"))
            asked.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            if b"200 OK" in asked.recv(100):
                return
        time.sleep(0.1)
    raise RuntimeError(f"dockerd does not start: {log.read_text(errors='replace')[-2000:]}")


def _stop(process: "subprocess.Popen[bytes]", engine: Engine) -> None:
    if process.poll() is None:
        try:
            for item in engine.client.api.containers(all=True):
                engine.client.api.remove_container(item["Id"], force=True)
        except docker.errors.DockerException:
            pass
        engine.client.close()
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
