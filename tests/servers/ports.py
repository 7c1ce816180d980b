"""Ports for servers of tests."""

import random
import socket

# Below those that the kernel gives to whoever asks for any, and above Ray's: nobody is given one
# between our look and the server's start. Their twins are as far from both.
_OURS = range(20_000, 22_700)
_TWIN = 10_000


def free_ports(count: int) -> list[int]:
    """Ports that nobody has, and whose gRPC twin (+10000) is free, too."""
    found: list[int] = []
    for port in random.SystemRandom().sample(_OURS, len(_OURS)):
        with socket.socket() as one, socket.socket() as two:
            try:
                one.bind(("127.0.0.1", port))
                two.bind(("127.0.0.1", port + _TWIN))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise RuntimeError(f"no {count} ports are free on this machine")
