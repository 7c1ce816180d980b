"""A server under overload: more clients than it takes, some of whom leave or send nonsense.

    python tests/soak/soak.py [--seconds 600] [--tree DIR]

Without --tree a small random model is compiled first. Every request must be answered or refused in
time, and memory must stay: the resident size of server and worker in the last minute at most 1.05
times that of the second minute (with fewer than 180 seconds: the last fifth against the second).
Prints one JSON object; exit 1 when something of this does not hold.
"""

import argparse
import json
import os
import random
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))
os.environ.setdefault("OMP_NUM_THREADS", "1")
from compiled import build
from served import Served, seal, serving

CLIENTS = 24
QUEUE = 8
PATIENCE = 60.0
MINUTE = 60.0
LIMIT = 1.05
PROMPTS = ("and the thing is", "the", "7 of 7 and the thing", "a thing of the thing " * 4)
BAD: tuple[bytes, ...] = (
    b"{",
    b'{"inputs": 7}',
    b'{"inputs": "a", "parameters": {"max_new_tokens": 0}}',
    b'{"inputs": "a", "parameters": {"nonsense": 1}}',
    b'{"inputs": "' + b"x" * 300_000 + b'"}',
    b"\xff" * 1000,
)
PATHS = (
    "/invocations",
    "/generate",
    "/endpoints/tiny/invocations",
    "/endpoints/tiny/invocations-response-stream",
)


class Load:
    """The clients, and what they saw."""

    def __init__(self, server: Served, end: float) -> None:
        self._server = server
        self._end = end
        self._lock = threading.Lock()
        self.seen: Counter[str] = Counter()
        self.tokens: dict[str, Counter[tuple[int, ...]]] = {text: Counter() for text in PROMPTS}

    def run(self) -> None:
        """All clients, until the end."""
        threads = [threading.Thread(target=self._client, args=(seed,)) for seed in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _client(self, seed: int) -> None:
        draw = random.Random(seed)
        while time.monotonic() < self._end:
            kind = draw.random()
            try:
                if kind < 0.1:
                    what = self._leaves(draw)
                elif kind < 0.2:
                    what = self._nonsense(draw)
                else:
                    what = self._asks(draw)
            except (TimeoutError, OSError, HTTPException) as error:
                what = f"broken: {type(error).__name__}"
            with self._lock:
                self.seen[what] += 1
            if what.startswith("refused"):
                time.sleep(0.02)

    def _asks(self, draw: random.Random) -> str:
        text, path = draw.choice(PROMPTS), draw.choice(PATHS)
        parameters = {"max_new_tokens": 16, "details": True}
        stream = path != "/generate" and draw.random() < 0.5
        body = {"inputs": text, "parameters": parameters, "stream": stream}
        answer = self._server.post(path, body)
        if answer.status in {429, 503, 424}:
            return "refused: full" if b"try again later" in answer.body else "wrong refusal"
        if answer.status != 200:
            return f"unexpected: {answer.status}"
        if path == "/invocations" and not stream:
            told = tuple(token["id"] for token in answer.json()["details"]["tokens"])
            with self._lock:
                self.tokens[text][told] += 1
        return "answered"

    def _nonsense(self, draw: random.Random) -> str:
        answer = self._server.post("/invocations", draw.choice(BAD))
        if answer.status == 503:
            return "refused: full"
        return "refused: 400" if answer.status == 400 else f"unexpected: {answer.status}"

    def _leaves(self, draw: random.Random) -> str:
        body = json.dumps(
            {"inputs": "and", "parameters": {"max_new_tokens": 100}, "stream": True}
        ).encode()
        head = f"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        sent = (head.encode() + body)[: draw.choice((40, 10_000))]
        with socket.create_connection(("127.0.0.1", self._server.port), PATIENCE) as client:
            client.sendall(sent)
            if len(sent) > 40 and draw.random() < 0.5:
                client.recv(200)
        return "left"


def resident(server: Served) -> int:
    """Bytes that server and worker keep in memory."""
    total = 0
    for pid in (server.process.pid, server.worker()):
        fields = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()
        total += int(fields[1]) * os.sysconf("SC_PAGESIZE")
    return total


def watch(server: Served, began: float, end: float) -> list[tuple[float, int]]:
    """Memory once a second."""
    seen = []
    while time.monotonic() < end:
        with suppress(OSError, ValueError):
            seen.append((time.monotonic() - began, resident(server)))
        time.sleep(1)
    return seen


def soak(tree: Path, seconds: float, home: Path) -> dict[str, Any]:
    """Serves `tree` under overload for so long; what was seen."""
    with serving(tree, "--queue", str(QUEUE), "--patience-seconds", "5", home=home) as server:
        began = time.monotonic()
        load = Load(server, began + seconds)
        clients = threading.Thread(target=load.run)
        clients.start()
        memory = watch(server, began, began + seconds)
        clients.join(PATIENCE + 10)
        hung = clients.is_alive()
        empty = server.comes_to("lmi_requests_inside", 0)
        alive = server.get("/ping").status == 200
        restarts = server.metric("lmi_restarts_total")
    span = MINUTE if seconds >= 3 * MINUTE else seconds / 5
    second = statistics.mean(size for at, size in memory if span <= at < 2 * span)
    last = statistics.mean(size for at, size in memory if at >= seconds - span)
    wrong = sum(count for what, count in load.seen.items() if what.startswith(_WRONG))
    same = all(len(told) == 1 for told in load.tokens.values())
    return {
        "seconds": seconds,
        "clients": CLIENTS,
        "requests": dict(sorted(load.seen.items())),
        "resident_second_minute_mb": round(second / 1e6, 1),
        "resident_last_minute_mb": round(last / 1e6, 1),
        "growth": round(last / second, 4),
        "same_tokens_each_time": same,
        "alive_and_empty_at_the_end": alive and empty and not hung,
        "worker_restarts": restarts,
        "passed": last <= LIMIT * second
        and same
        and not (wrong or hung or restarts)
        and alive
        and empty,
    }


_WRONG = ("broken", "unexpected", "wrong")


def main() -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="soak")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--tree", type=Path)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        tree = chosen.tree
        if tree is None:
            from tiny_llama import make_tiny_llama  # noqa: PLC0415 - imports torch, seconds

            built = build(home / "built", make_tiny_llama(home / "model"), max_batch_size=3)
            tree = seal(built.package, home / "tree")
        report = soak(tree, chosen.seconds, home)
    print(json.dumps(report, indent=1))
    return 0 if report["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
