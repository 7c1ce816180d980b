"""The container engine: connecting, an image by its digest, and what to do when it fails."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import docker  # noqa: TID253 - imported when a container is asked for
import requests

from lmi_compile.errors import CompileError, EnvironmentFault, Transient
from lmi_recipes.toolchain import Image

_ANSWER_SECONDS = 60
_USUAL = "unix:///var/run/docker.sock"
_NO_GPU = ("could not select device driver", "nvidia-container", "unknown runtime")


def connect() -> docker.DockerClient:
    """The engine that DOCKER_HOST names, else the one on its usual socket.

    Raises:
        EnvironmentFault: none answers there, or this user may not ask it.
    """
    try:
        client = docker.from_env(timeout=_ANSWER_SECONDS)
        client.ping()
    except (docker.errors.DockerException, requests.RequestException) as error:
        raise _unreachable(error) from error
    return client


def address() -> str:
    """The engine's URL."""
    return os.environ.get("DOCKER_HOST") or _USUAL


def find_image(client: docker.DockerClient, image: Image, *, pull: bool) -> Any:
    """The image, as the engine has it; never another one than the digest names.

    Args:
        client: the engine.
        image: a reference, and the digest that its toolchain pins: a registry's, or the id of an
            image that was built here.
        pull: fetch it where the engine lacks it.

    Raises:
        EnvironmentFault: it is not there, or what is there has another digest.
    """
    pinned = f"{_repository(image.reference)}@{image.digest}" if image.digest else image.reference
    for name in (pinned, image.reference):
        found = _look(client, name)
        if found is None:
            continue
        if image.digest is None or image.digest in digests_of(found):
            return found
        what = f"{image.reference} is here as {', '.join(digests_of(found))}"
        why = f"the toolchain pins {image.digest}"
        raise EnvironmentFault(what, why, f"docker pull {pinned}, or run again with --pull")
    if not pull:
        what = f"image {pinned} is not on this machine"
        fix = f"docker pull {pinned}, or run again with --pull"
        raise EnvironmentFault(what, fix=fix)
    try:
        client.images.pull(pinned)
    except docker.errors.DockerException as error:
        what = f"image {pinned} could not be pulled"
        fix = "check its name and digest, and `docker login` where its registry asks for it"
        raise EnvironmentFault(what, _words(error), fix) from error
    return find_image(client, image, pull=False)


def digests_of(image: Any) -> tuple[str, ...]:
    """The digests by which an image is known: its registries', else its own id."""
    listed = image.attrs.get("RepoDigests") or []
    return (*(text.partition("@")[2] for text in listed), str(image.id))


@contextmanager
def engine_faults(step: str) -> Iterator[None]:
    """Turn what the engine refuses into an error that says what to do.

    Raises:
        EnvironmentFault: it refuses, or lacks what the step needs.
        Transient: it went away.
    """
    try:
        yield
    except (requests.RequestException, docker.errors.DockerException) as error:
        raise _refused(step, error) from error


def _look(client: docker.DockerClient, name: str) -> Any | None:
    try:
        return client.images.get(name)
    except docker.errors.ImageNotFound:
        return None


def _repository(reference: str) -> str:
    """`host:5000/name:tag` without its tag."""
    head, slash, last = reference.rpartition("/")
    return head + slash + last.partition("@")[0].partition(":")[0]


def _unreachable(error: Exception) -> CompileError:
    words = _words(error)
    if "Permission denied" in words or "PermissionError" in words:
        what = "this user may not use the container engine's socket"
        fix = "add the user to the engine's group (docker), or set DOCKER_HOST to a rootless engine"
        return EnvironmentFault(what, words, fix)
    what = "no container engine answers"
    fix = "start it (systemctl start docker), or set DOCKER_HOST to where it listens"
    return EnvironmentFault(what, words, fix)


def _refused(step: str, error: Exception) -> CompileError:
    words = _words(error)
    if any(text in words for text in _NO_GPU):
        what = f"step {step} needs a GPU and the container engine has no NVIDIA runtime"
        fix = "install nvidia-container-toolkit on a machine with the GPU, and restart the engine"
        return EnvironmentFault(what, words, fix)
    if isinstance(error, requests.RequestException):
        what = f"the container engine went away during step {step}"
        return Transient(what, words, "run the same command again")
    return EnvironmentFault(f"the container engine refused step {step}", words)


def _words(error: Exception) -> str:
    return str(getattr(error, "explanation", "") or error)
