"""What must not outlive this process, however it ends: its children's groups, its containers.

A child of its own reads what is held from a pipe, `+ KIND NAME` and `- KIND NAME`. The pipe ends
when its parent dies, by `kill -9` too, and then the child ends all that is still held. It is
started when the first thing is held, in a session of its own that no Ctrl-C reaches.
"""

import contextlib
import http.client
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from urllib.parse import quote

_UNIX = "unix://"
_SECONDS = 20.0


class _Pipe:
    """The one pipe of this process; a forked child starts its own."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._owner = 0
        self._end = -1

    def say(self, line: str) -> None:
        with self._lock, contextlib.suppress(BrokenPipeError):
            if self._owner != os.getpid():
                self._owner, self._end = os.getpid(), _start()
            os.write(self._end, line.encode())


_PIPE = _Pipe()


@contextlib.contextmanager
def leashed(kind: str, name: str) -> Iterator[None]:
    """Hold `name` to the life of this process.

    Args:
        kind: `group`, a process group's number; `container`, an engine's URL, `#` and a name.
        name: which one; no spaces.
    """
    _PIPE.say(f"+ {kind} {name}\n")
    try:
        yield
    finally:
        _PIPE.say(f"- {kind} {name}\n")


def _start() -> int:
    read, write = os.pipe()
    null = os.open(os.devnull, os.O_RDWR)
    actions = [(os.POSIX_SPAWN_DUP2, read, 0), *((os.POSIX_SPAWN_DUP2, null, fd) for fd in (1, 2))]
    try:
        os.posix_spawn(
            sys.executable,
            [sys.executable, "-I", "-S", str(Path(__file__))],
            {},
            file_actions=actions,
            setsid=True,
        )
    finally:
        os.close(read)
        os.close(null)
    return write


def main() -> None:
    """Remember what is held until the input ends, then end it."""
    held: dict[str, None] = {}
    for line in sys.stdin:
        sign, _, what = line.strip().partition(" ")
        if sign == "+":
            held[what] = None
        else:
            held.pop(what, None)
    for what in held:
        kind, _, name = what.partition(" ")
        with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
            if kind == "group":
                os.killpg(int(name), signal.SIGKILL)
            else:
                _remove_container(*name.split("#", 1))


def _remove_container(engine: str, name: str) -> None:
    path = f"/containers/{quote(name)}?force=true&v=true"
    connection = http.client.HTTPConnection("localhost", timeout=_SECONDS)
    if engine.startswith(_UNIX):
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(_SECONDS)
        connection.sock.connect(engine.removeprefix(_UNIX))
    else:
        host = engine.partition("://")[2]
        connection = http.client.HTTPConnection(host, timeout=_SECONDS)
    connection.request("DELETE", path)
    connection.getresponse().read()


if __name__ == "__main__":
    main()
