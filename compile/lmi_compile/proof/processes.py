"""Which working directory a traced process has: needed to read relative paths."""

import posixpath
from collections.abc import Iterable

from lmi_compile.proof.trace import Call, child_pid, descriptor_path, string

_MAKE_PROCESS = frozenset({"clone", "clone3", "fork", "vfork"})


class Processes:
    """Follows `chdir` through threads (which share it) and children (which inherit it).

    Args:
        calls: the whole trace; read once for who made whom, since a child's first calls may stand
            before the end of the call that made it.
    """

    def __init__(self, calls: Iterable[Call]) -> None:
        self._parent: dict[int, int] = {}
        self._shared: set[int] = set()
        self._folder: dict[int, str] = {}
        for call in calls:
            child = child_pid(call) if call.name in _MAKE_PROCESS and call.succeeded else None
            if child is not None:
                self._parent[child] = call.pid
                if "CLONE_FS" in call.text:
                    self._shared.add(child)

    def observe(self, call: Call) -> None:
        """Takes note of one call; calls must come in the trace's order."""
        if call.name in _MAKE_PROCESS and call.succeeded:
            child = child_pid(call)
            folder = self.folder(call.pid)
            if child is not None and child not in self._shared and folder is not None:
                self._folder.setdefault(child, folder)
        elif call.name == "chdir" and call.succeeded:
            target = string(call.arg(0))
            if target is not None:
                owner = self._owner(call.pid)
                self._folder[owner] = posixpath.join(self.folder(call.pid) or "", target)
        elif call.name == "fchdir" and call.succeeded:
            path = descriptor_path(call.arg(0))
            if path is not None:
                self._folder[self._owner(call.pid)] = path

    def folder(self, pid: int) -> str | None:
        """The working directory of a process, or None where the trace does not tell."""
        owner = self._owner(pid)
        while owner not in self._folder and owner in self._parent:
            owner = self._owner(self._parent[owner])
        return self._folder.get(owner)

    def _owner(self, pid: int) -> int:
        while pid in self._shared:
            pid = self._parent[pid]
        return pid
