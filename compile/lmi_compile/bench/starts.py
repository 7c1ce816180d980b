"""Cold and warm start of an artifact that is served here: from the process to the first token."""

import os
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from lmi_artifacts.reference import exact
from lmi_artifacts.registry import Registry
from lmi_compile.bench.sweep import Asked, Say, first_answer
from lmi_compile.client.target import Target, served


class Place:
    """Where requests go, started when it is first needed; a context that stops it again.

    An artifact is started twice: with its files dropped from the page cache, as far as the kernel
    does so, and again; the second one stays. A URL or an endpoint runs already: what is timed
    there is its first answer.
    """

    def __init__(self, target: Target, registry: Registry, url: str, cache: Path, say: Say) -> None:
        self._target = target
        self._registry = registry
        self._url = url
        self._cache = cache
        self._say = say
        self._stack = ExitStack()
        self._found: Target | None = None
        self.starts: dict[str, float] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self._stack.close()

    def find(self, asked: Asked, prompt: str) -> Target:
        """Give where requests go.

        Raises:
            CompileError: it does not come up, or does not answer.
        """
        if self._found is None:
            if self._target.kind == "artifact":
                for path in sorted(tree_of(self._target, self._registry, self._cache)):
                    drop_from_cache(path)
                with ExitStack() as cold:
                    self._start("cold start to the first token", cold, asked, prompt)
                self._found = self._start(
                    "warm start to the first token", self._stack, asked, prompt
                )
            else:
                answered = first_answer(self._target, asked, prompt)
                self._note("first token of the first request", answered["time_to_first_token"])
                self._found = self._target
        return self._found

    def _start(self, name: str, stack: ExitStack, asked: Asked, prompt: str) -> Target:
        started = time.perf_counter()
        found = stack.enter_context(served(self._target, self._url, self._cache))
        up = time.perf_counter() - started
        self._note(name, up + first_answer(found, asked, prompt)["time_to_first_token"])
        return found

    def _note(self, name: str, seconds: float) -> None:
        self.starts[name] = seconds
        self._say(f"{name}: {seconds:.2f} s")


def tree_of(target: Target, registry: Registry, cache: Path) -> list[Path]:
    """The files of an artifact as far as they are on this machine."""
    ref = exact(target.where)
    if ref is None:
        return []
    folders = [Path(registry.location(ref)), cache / "pulled" / ref.digest.hex]
    return [path for folder in folders for path in folder.rglob("*") if path.is_file()]


def drop_from_cache(path: Path) -> None:
    """Ask the kernel to forget a file's pages; those that are mapped elsewhere stay."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)
