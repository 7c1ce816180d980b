"""A container registry of the tests' own: Debian's docker-registry on loopback."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ports import free_ports

_START_SECONDS = 240.0


def missing() -> str | None:
    """Why none can run here, or None."""
    return None if shutil.which("docker-registry") else "needs docker-registry"


@dataclass(frozen=True)
class OciRegistry:
    """A running registry; an engine on the same machine takes loopback without TLS."""

    address: str

    def push(self, client: Any, image: str, name: str) -> tuple[str, str]:
        """Push a local image; returns its reference here and its digest, by the registry's word.

        The engine forgets the name that it pushed.
        """
        reference = f"{self.address}/{name}"
        client.images.get(image).tag(reference, tag="1")
        said = client.api.push(reference, tag="1", stream=True, decode=True)
        found = [line["aux"]["Digest"] for line in said if "Digest" in line.get("aux", {})]
        assert found, "the engine could not push"
        client.images.remove(f"{reference}:1")
        return f"{reference}:1", found[0]


@contextmanager
def oci_registry() -> Iterator[OciRegistry]:
    """Run a registry in a folder of its own; nothing of it is left afterwards."""
    home = Path(tempfile.mkdtemp(prefix="lmireg"))
    (port,) = free_ports(1)
    address = f"127.0.0.1:{port}"
    config = {
        "version": 0.1,
        "storage": {"filesystem": {"rootdirectory": str(home / "data")}},
        "http": {"addr": address},
    }
    (home / "config.yml").write_text(json.dumps(config), encoding="utf-8")  # JSON is YAML
    with (home / "log").open("wb") as out:
        process = subprocess.Popen(
            ["/usr/bin/env", "docker-registry", "serve", home / "config.yml"],
            stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
        )  # fmt: skip
    try:
        _wait(process, address, home / "log")
        yield OciRegistry(address)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        shutil.rmtree(home, ignore_errors=True)


def _wait(process: "subprocess.Popen[bytes]", address: str, log: Path) -> None:
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://{address}/v2/", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise RuntimeError(f"docker-registry does not start: {log.read_text(errors='replace')[-2000:]}")
