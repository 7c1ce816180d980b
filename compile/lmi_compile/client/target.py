"""What REF|URL|ENDPOINT means, and a connection to it."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from lmi_artifacts.errors import ArtifactNotFound, ArtifactRevoked, ReferenceInvalid
from lmi_artifacts.registry import Registry
from lmi_compile.client.transport import HttpTransport, Transport
from lmi_compile.errors import EnvironmentFault, from_failure

ENDPOINT: Final = "sagemaker://"
_STOP_SECONDS: Final = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where requests go.

    Attributes:
        kind: an artifact that is served here for the while, a URL, or a SageMaker endpoint.
        where: the reference, URL or endpoint's name.
        timeout_seconds: between two pieces of an answer.
        region: AWS region of an endpoint.
        component: inference component of an endpoint.
    """

    kind: Literal["artifact", "url", "endpoint"]
    where: str
    timeout_seconds: float = 300.0
    region: str | None = None
    component: str | None = None

    def open(self, *, stream: bool) -> Transport:
        """Make a connection of one's own; sends nothing yet.

        Raises:
            EnvironmentFault: boto3 is missing or not configured.
        """
        if self.kind == "url":
            return HttpTransport(self.where, timeout_seconds=self.timeout_seconds)
        try:
            from lmi_compile.client.endpoint import EndpointTransport  # noqa: PLC0415 - boto3
            from lmi_compile.deploy.sagemaker import translated  # noqa: PLC0415 - boto3
        except ModuleNotFoundError as error:
            fix = "pip install 'lmi-compile[s3]'"
            raise EnvironmentFault("asking an endpoint needs boto3", str(error), fix) from error
        with translated("asking an endpoint"):
            return EndpointTransport(
                self.where,
                region=self.region,
                stream=stream,
                timeout_seconds=self.timeout_seconds,
                component=self.component,
            )


def find_target(
    text: str,
    registry: Registry,
    *,
    timeout_seconds: float,
    region: str | None = None,
    component: str | None = None,
) -> Target:
    """Say what a word on the command line means.

    A URL has `http://` or `https://`; `sagemaker://NAME` is an endpoint; anything else is an
    artifact of the registry, or, where that has none of the name, an endpoint.

    Raises:
        ArtifactRevoked: it is an artifact that was taken back.
    """
    if text.startswith(("http://", "https://")):
        return Target(kind="url", where=text, timeout_seconds=timeout_seconds)
    endpoint = Target(
        kind="endpoint",
        where=text.removeprefix(ENDPOINT),
        timeout_seconds=timeout_seconds,
        region=region,
        component=component,
    )
    if text.startswith(ENDPOINT):
        return endpoint
    try:
        ref = registry.resolve(text)
    except (ArtifactNotFound, ReferenceInvalid):
        if not text.replace("-", "").isalnum():
            raise
        return endpoint
    reason = registry.revocation(ref)
    if reason is not None:
        raise ArtifactRevoked(str(ref), reason)
    return Target(kind="artifact", where=str(ref), timeout_seconds=timeout_seconds)


@contextmanager
def served(target: Target, registry: str, cache: Path) -> Iterator[Target]:
    """Serve an artifact here for the while, in a process of its own; other targets stay.

    Raises:
        EnvironmentFault: the server did not come up; with the end of what it said.
    """
    if target.kind != "artifact":
        yield target
        return
    argv = [sys.executable, "-m", "lmi_compile", "serve", target.where, "--port", "0", "--json"]
    argv += ["--registry", registry, "--cache-dir", str(cache)]
    process = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    said: list[str] = []
    listener = threading.Thread(target=_listen, args=(process, said), daemon=True)
    listener.start()
    try:
        url = _address(process, said)
        yield Target(kind="url", where=f"{url}/invocations", timeout_seconds=target.timeout_seconds)
    finally:
        _stop(process)
        listener.join(timeout=1)


def _listen(process: subprocess.Popen[str], said: list[str]) -> None:
    for line in process.stderr or ():
        said.append(line.rstrip())
        del said[:-50]


def _address(process: subprocess.Popen[str], said: list[str]) -> str:
    import json  # noqa: PLC0415 - only an artifact that is served here needs it

    line = process.stdout.readline() if process.stdout else ""
    try:
        told = json.loads(line)
        if "error" in told:
            raise from_failure(told["error"], None)
        return str(told["url"]).rstrip("/")
    except (ValueError, KeyError, TypeError):
        process.poll()
        why = "\n".join(said[-10:]) or f"it said {line!r}"
        raise EnvironmentFault("the artifact could not be served here", why) from None


def _stop(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if process.stdout is not None:
        process.stdout.close()
