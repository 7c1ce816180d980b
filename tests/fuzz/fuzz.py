"""Damaged bytes into everything that reads bytes of strangers: `make fuzz`.

Each reader runs in a child with bounded memory; each input has a few seconds of CPU. An input is
wrongly handled when the reader raises anything it does not raise on purpose, takes too long, or
dies.
The last line counts; inputs that did harm are kept in `out/fuzz/`.
"""

import argparse
import multiprocessing
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

sys.path.insert(0, str(Path(__file__).parent))

from doors import doors
from mutate import damaged
from readers import Target, readers

_SECONDS = 5.0  # of CPU
_WAITED = 120.0  # by the clock, which goes on while other programs run
_MEMORY = 1 << 30
_KEPT = Path("out/fuzz")
_EVERY = 20


class _TooLongError(BaseException):
    """An input took more than its seconds; no reader can catch it by accident."""


@dataclass
class Tally:
    """What came of a reader's inputs."""

    inputs: int = 0
    read: int = 0
    tracebacks: int = 0
    hangs: int = 0
    over_memory: int = 0
    harmful: list[str] = field(default_factory=list)

    def add(self, other: "Tally") -> None:
        """Count another reader's in."""
        self.inputs += other.inputs
        self.read += other.read
        self.tracebacks += other.tracebacks
        self.hangs += other.hangs
        self.over_memory += other.over_memory
        self.harmful += other.harmful


def targets(scratch: Path) -> tuple[Target, ...]:
    """All that reads bytes of strangers."""
    return (*readers(scratch), *doors(scratch))


def fuzz_one(target: Target, count: int, seed: int, scratch: Path) -> Tally:
    """Give `count` damaged inputs to one reader, the same ones for the same seed."""
    rng = random.Random(f"{target.name} {seed}")
    tally = Tally()
    for number, sound in enumerate(target.samples):
        place = scratch / f"sound-{number}"
        place.mkdir()
        target.read(sound, place)  # damage to what is not sound would show nothing
    for number in range(count):
        raw = damaged(rng.choice(target.samples), rng.choice(target.samples), rng)
        place = scratch / str(number % 2)
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        tally.inputs += 1
        try:
            with _within(_SECONDS, _WAITED):
                target.read(raw, place)
            tally.read += 1
        except target.refuses:
            pass
        except _TooLongError:
            tally.hangs += 1
            _keep(tally, target, number, raw, "took too long")
        except MemoryError:
            tally.over_memory += 1
            _keep(tally, target, number, raw, "asked for too much memory")
        except Exception:  # noqa: BLE001 - that is what is looked for
            tally.tracebacks += 1
            _keep(tally, target, number, raw, traceback.format_exc())
    return tally


def _keep(tally: Tally, target: Target, number: int, raw: bytes, why: str) -> None:
    if len(tally.harmful) < _EVERY:
        name = f"{target.name.replace(' ', '-')}-{number}"
        _KEPT.mkdir(parents=True, exist_ok=True)
        (_KEPT / name).write_bytes(raw)
        tally.harmful.append(f"{_KEPT / name}: {why.strip().splitlines()[-1][:200]}")


@contextmanager
def _within(seconds: float, waited: float) -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        del number, frame
        raise _TooLongError

    signal.signal(signal.SIGPROF, stop)
    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, waited)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)


def _child(name: str, count: int, seed: int, answer: "multiprocessing.SimpleQueue[Tally]") -> None:
    with tempfile.TemporaryDirectory(dir=_fast()) as folder:
        found = next(one for one in targets(Path(folder)) if one.name == name)
        held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
        resource.setrlimit(resource.RLIMIT_AS, (held + _MEMORY + (4 << 30),) * 2)
        answer.put(fuzz_one(found, count, seed, Path(folder)))


def _fast() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108 - memory, not a file


def run(total: int, seed: int, only: str = "") -> Tally:
    """Fuzz every reader, or those with `only` in their name, with its share of `total` inputs."""
    with tempfile.TemporaryDirectory() as folder:
        everyone = [(one.name, one.share) for one in targets(Path(folder)) if only in one.name]
    shares = sum(share for _, share in everyone)
    whole = Tally()
    fork = multiprocessing.get_context("fork")
    for name, share in everyone:
        count = -(-total * share // shares)
        answer = fork.SimpleQueue()
        child = fork.Process(target=_child, args=(name, count, seed, answer))
        child.start()
        child.join()
        if child.exitcode:
            found = Tally(inputs=count, over_memory=1, harmful=[f"{name}: died, {child.exitcode}"])
        else:
            found = answer.get()
        print(f"  {name}: {found.inputs} inputs, {found.read} of them still sound", flush=True)
        whole.add(found)
    return whole


def main() -> int:
    """Run from the command line; 1 when an input did harm."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--inputs", type=int, default=100_000)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--only", default="", help="readers whose name has this in it")
    chosen = options.parse_args()
    tally = run(chosen.inputs, chosen.seed, chosen.only)
    print("\n".join(tally.harmful), end="\n" if tally.harmful else "")
    print(
        f"fuzz: {tally.inputs} inputs, {tally.tracebacks} tracebacks, {tally.hangs} hangs, "
        f"{tally.over_memory} over memory"
    )
    return 1 if tally.harmful else 0


if __name__ == "__main__":
    sys.exit(main())
