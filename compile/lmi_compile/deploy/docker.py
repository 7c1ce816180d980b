"""A deployment to a plain Docker host: one `docker run` line, and the same as a compose file."""

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from lmi_artifacts.createmodel import image_of
from lmi_artifacts.errors import ArtifactRefused
from lmi_artifacts.manifest import Manifest
from lmi_artifacts.reference import ArtifactRef
from lmi_compile.deploy.needs import Needs, needs_of

MODEL_PATH: Final = "/opt/ml/model"
_PORT: Final = 8080
_SHARED_MEMORY: Final = "2g"


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """What a container gets from its host.

    Attributes:
        image: its reference.
        folder: where the pulled tree is on that host.
        port: where it listens there.
        environment: its variables.
        needs: its accelerators.
    """

    image: str
    folder: str
    port: int
    environment: Mapping[str, str]
    needs: Needs


def host_for(
    ref: ArtifactRef,
    manifest: Manifest,
    *,
    image: str | None,
    folder: str,
    port: int,
    environment: Mapping[str, str],
) -> Host:
    """Say what an artifact's container needs of a host.

    Raises:
        ArtifactRefused: nothing names a container.
    """
    image = image or image_of(manifest)
    if image is None:
        raise ArtifactRefused(str(ref), ["its toolchain names no image; say --image"])
    return Host(
        image=image,
        folder=folder,
        port=port,
        environment={"LMI_ARTIFACT": str(ref), "DJL_OFFLINE": "true", **environment},
        needs=needs_of(manifest),
    )


def run_line(name: str, host: Host) -> str:
    """The `docker run` command, quoted for a shell."""
    words = ["docker", "run", "--rm", "--name", name, "-p", f"127.0.0.1:{host.port}:{_PORT}"]
    words += ["-v", f"{host.folder}:{MODEL_PATH}:ro"]
    words += ["--shm-size", _SHARED_MEMORY, "--cap-drop", "ALL"]
    words += ["--security-opt", "no-new-privileges"]
    if host.needs.gpus:
        words += ["--gpus", str(host.needs.gpus)]
    for device in range(host.needs.neuron):
        words += ["--device", f"/dev/neuron{device}"]
    for key, value in sorted(host.environment.items()):
        words += ["-e", f"{key}={value}"]
    return shlex.join([*words, host.image, "serve"])


def compose_file(name: str, host: Host) -> str:
    """The same as a compose file; JSON strings are YAML strings, `$` doubled as compose wants."""

    def text(value: str) -> str:
        return json.dumps(value.replace("$", "$$"))

    lines = ["services:", f"  {name}:", f"    image: {text(host.image)}", '    command: ["serve"]']
    lines += ["    ports:", f"      - {text(f'127.0.0.1:{host.port}:{_PORT}')}"]
    lines += ["    volumes:", "      - type: bind", f"        source: {text(host.folder)}"]
    lines += [f"        target: {MODEL_PATH}", "        read_only: true"]
    lines += [f"    shm_size: {_SHARED_MEMORY}", '    cap_drop: ["ALL"]']
    lines += ['    security_opt: ["no-new-privileges:true"]', "    environment:"]
    lines += [f"      {key}: {text(value)}" for key, value in sorted(host.environment.items())]
    if host.needs.neuron:
        lines += ["    devices:", *(f"      - /dev/neuron{n}" for n in range(host.needs.neuron))]
    if host.needs.gpus:
        lines += ["    deploy:", "      resources:", "        reservations:", "          devices:"]
        lines += ["            - driver: nvidia", f"              count: {host.needs.gpus}"]
        lines += ['              capabilities: ["gpu"]']
    lines += ["    healthcheck:", "      test:"]
    lines += [f'        ["CMD", "curl", "-fsS", "http://127.0.0.1:{_PORT}/ping"]']
    lines += ["      interval: 10s", "      timeout: 5s", "      retries: 3"]
    lines += ["      start_period: 1200s", "    restart: unless-stopped"]
    return "\n".join(lines) + "\n"
