"""Throughput of `lmi-compile serve` at concurrency 8 against concurrency 1, in float32.

    python benchmarks/serve.py [--rounds 5] [--tokens 32] [--threads 1] [--trees DIR8 DIR1]

One server over the package for eight sequences, one over the package for one (the peer: what a
lone client could have had). They take turns, so that a drift of the machine meets all. Per turn:
tokens per second of wall time, and per CPU second of server and worker together, which other work
on the machine hardly moves while the threads are fixed. Both packages are built when they are not
in the cache (minutes), unless --trees names packages that are there.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "fixtures"))
from served import Served, seal, serving

TOGETHER = "smollm2-135m-instruct-cpu-batch8"
ALONE = "smollm2-135m-instruct-cpu"
CONCURRENCY = 8
LEAST, GOAL = 2.5, 3.0
PROMPTS = (
    "The capital of France is",
    "Once upon a time, in a small village by the sea,",
    "The three laws of thermodynamics say that",
    "def fibonacci(n):",
    "To make bread at home you need",
    "The history of the Roman empire begins",
    "A list of planets in the solar system:",
    "My favourite thing about autumn is",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """Tokens per second, of wall time and of CPU time."""

    wall: float
    cpu: float


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--trees", type=Path, nargs=2, default=(None, None))
    asked = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(asked.threads)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        home = Path(folder)
        servers = {
            recipe: stack.enter_context(
                serving(_tree(recipe, package, home / recipe), home=home, threads=asked.threads)
            )
            for recipe, package in zip((TOGETHER, ALONE), asked.trees, strict=True)
        }
        found = _measure(servers, asked.rounds, asked.tokens)
    print(f"float32, {asked.threads} threads, {asked.tokens} tokens a request, "
          f"{asked.rounds} rounds; load average {os.getloadavg()[0]:.1f}")  # fmt: skip
    _print(found)


def _tree(recipe: str, package: Path | None, tree: Path) -> Path:
    """The recipe's package with a manifest."""
    if package is not None:
        return seal(package, tree, name=recipe)
    command = [str(Path(sys.executable).with_name("lmi-compile")), recipe, "--until", "package"]
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return seal(Path(ended.stdout.strip()), tree, name=recipe)


def _measure(servers: Mapping[str, Served], rounds: int, tokens: int) -> dict[str, list[Turn]]:
    turns = {
        f"batch 8, concurrency {CONCURRENCY}": (servers[TOGETHER], CONCURRENCY, PROMPTS),
        "batch 8, concurrency 1": (servers[TOGETHER], 1, PROMPTS[:2]),
        "batch 1, concurrency 1 (peer)": (servers[ALONE], 1, PROMPTS[:2]),
    }
    found: dict[str, list[Turn]] = {name: [] for name in turns}
    for number in range(-1, rounds):  # the first round warms up
        for name, (server, concurrency, prompts) in turns.items():
            turn = _turn(server, concurrency, prompts, tokens)
            if number >= 0:
                found[name].append(turn)
    return found


def _turn(server: Served, concurrency: int, prompts: Sequence[str], tokens: int) -> Turn:
    def ask(prompt: str) -> int:
        parameters = {"max_new_tokens": tokens, "details": True}
        answer = server.post("/invocations", {"inputs": prompt, "parameters": parameters})
        assert answer.status == 200, answer.body
        return int(answer.json()["details"]["generated_tokens"])

    pids = (server.process.pid, server.worker())
    cpu, wall = sum(map(_cpu, pids)), time.perf_counter()
    with ThreadPoolExecutor(concurrency) as pool:
        count = sum(pool.map(ask, prompts))
    seconds = time.perf_counter() - wall
    return Turn(wall=count / seconds, cpu=count / (sum(map(_cpu, pids)) - cpu))


def _cpu(pid: int) -> float:
    """User and system seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _print(found: Mapping[str, Sequence[Turn]]) -> None:
    print(
        f"{'':32} {'tokens/s':>9} {'min':>7} {'max':>7} {'tokens/CPU s':>13} {'min':>7} {'max':>7}"
    )
    for name, turns in found.items():
        wall, cpu = [turn.wall for turn in turns], [turn.cpu for turn in turns]
        print(
            f"{name:32} {statistics.median(wall):9.2f} {min(wall):7.2f} {max(wall):7.2f} "
            f"{statistics.median(cpu):13.2f} {min(cpu):7.2f} {max(cpu):7.2f}"
        )
    together, alone, peer = found.values()
    for name, other in (("the same package", alone), ("the batch-1 package", peer)):
        wall = statistics.median(a.wall / b.wall for a, b in zip(together, other, strict=True))
        cpu = statistics.median(a.cpu / b.cpu for a, b in zip(together, other, strict=True))
        print(f"concurrency 8 against 1 on {name}: {wall:.2f} times by wall, {cpu:.2f} by CPU")
    print(f"wanted: at least {LEAST} times the same package's, {GOAL} is the goal")


if __name__ == "__main__":
    main()
