"""A model that is split over processes of this machine, which sum their parts over gloo.

Rank 0 is the process that serves. It starts the others, tells each what to run on a pipe, and
watches them: when one ends, all end, and whatever was being computed fails at once, because the
connections of a dead process are closed. They speak over the loopback interface alone.
"""

import atexit
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import IO, Any

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import FileStore

from .environment import RankLost, RuntimeMismatch

# Of one sum, and of rank 0's wait for a pipe: all ranks begin a step together and compute alike, so
# only one that hangs takes as long.
_TIMEOUT = timedelta(seconds=60)
_ENDING_SECONDS = 5.0  # within which it is known who died, after a sum has failed
_ENDED = "the ranks were ended"
_MODULE = "lmi_aoti_runtime.rank"


class Peer:
    """One rank's end of the group.

    Attributes:
        rank: Which, from 0.
    """

    def __init__(self, rank: int, degree: int, description: Mapping[str, Any]) -> None:
        """Knows its words of the vocabulary; `join` connects it."""
        self.rank = rank
        self._degree = degree
        self._rows = int(description["parallel"]["vocabulary_rows"])

    def join(self, store: Path) -> None:
        """Waits for all ranks, then finds them through a file in `store`."""
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"
        dist.init_process_group(
            "gloo",
            store=FileStore(str(store / "addresses"), self._degree),
            rank=self.rank,
            world_size=self._degree,
            timeout=_TIMEOUT,
        )
        dist.barrier()  # until then a rank may still read in `store`

    def own(self, ids: torch.Tensor) -> torch.Tensor:
        """Token ids of any shape as rows of this rank's embedding; those outside it are others'."""
        return ids - self.rank * self._rows


class Ranks:
    """The other ranks, as rank 0 sees them."""

    def __init__(self, root: Path, degree: int, threads: int) -> None:
        """Starts them; they load while rank 0 does.

        Args:
            root: The packaged tree.
            degree: How many ranks there are, rank 0 included.
            threads: Of each.
        """
        self._store = Path(tempfile.mkdtemp(prefix="lmi-ranks-"))
        self._why = ""
        self._ended = threading.Event()
        self._lock = threading.Lock()
        paths = [str(root), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": str(threads),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": os.pathsep.join(paths),
        }
        self._others = [
            subprocess.Popen(
                [sys.executable, "-m", _MODULE, str(rank), str(degree), str(self._store)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment,
            )
            for rank in range(1, degree)
        ]
        atexit.register(self.end)

    def ready(self, peer: Peer) -> None:
        """Returns when all have loaded their tensors and are connected.

        Raises:
            RuntimeMismatch: One cannot be served here; it says why.
        """
        try:
            for rank, other in enumerate(self._others, 1):
                _hear(rank, other)
            self._say({"join": True})
            for rank, other in enumerate(self._others, 1):
                threading.Thread(target=self._watch, args=(rank, other), daemon=True).start()
            peer.join(self._store)
        except BaseException:
            self.end()
            raise
        shutil.rmtree(self._store, ignore_errors=True)

    @contextmanager
    def together(self, asked: Mapping[str, Any]) -> Iterator[None]:
        """Tells all what rank 0 runs inside.

        Raises:
            RankLost: One has ended, or does not answer; none can be asked any more.
        """
        if self._why:
            raise RankLost(self._why)
        try:
            self._say(asked)
            yield
        except Exception as error:
            # Whatever it was, the ranks are no longer at the same step.
            if not self._ended.wait(_ENDING_SECONDS):
                self._lose(f"the ranks do not answer: {error}")
            raise RankLost(self._why) from error
        except BaseException:
            self._lose("the ranks were interrupted")
            raise

    def whole(self, logits: torch.Tensor, words: int) -> torch.Tensor:
        """Logits of all words `[R, words]`: rank 0's own `[R, rows]`, and the others' off the pipe.

        Not through gloo: of a tensor that Python knows, its threads let go only with the
        interpreter's lock, which whoever runs a graph holds.
        """
        parts = [logits]
        for other in self._others:
            data = _receive(other.stdout, logits.numel() * logits.itemsize)
            parts.append(torch.frombuffer(data, dtype=logits.dtype).reshape(logits.shape))
        return torch.cat(parts, -1)[:, :words].contiguous()

    def end(self) -> None:
        """Ends all of them."""
        with self._lock:
            self._why = self._why or _ENDED
        for other in self._others:
            with suppress(OSError):
                other.kill()
        for other in self._others:
            other.wait()
        shutil.rmtree(self._store, ignore_errors=True)

    def _say(self, told: Mapping[str, Any]) -> None:
        line = json.dumps(told).encode() + b"\n"
        for other in self._others:
            _send(other.stdin, line)

    def _watch(self, rank: int, other: "subprocess.Popen[bytes]") -> None:
        self._lose(f"rank {rank} of {len(self._others) + 1} {_ending(other)}")

    def _lose(self, why: str) -> None:
        with self._lock:
            self._why = self._why or why
        self.end()
        self._ended.set()


def _send(pipe: IO[bytes] | None, line: bytes) -> None:
    """Writes all of it, as long as the other side reads."""
    left = memoryview(line)
    while left and pipe is not None:
        _await(pipe, select.POLLOUT)
        left = left[os.write(pipe.fileno(), left[: select.PIPE_BUF]) :]


def _receive(pipe: IO[bytes] | None, size: int) -> bytearray:
    """As many bytes, as long as the other side writes."""
    data = bytearray(size)
    left = memoryview(data)
    while left and pipe is not None:
        _await(pipe, select.POLLIN)
        count = os.readv(pipe.fileno(), [left])
        if not count:
            raise ConnectionError("a rank's logits are missing")
        left = left[count:]
    return data


def _await(pipe: IO[bytes], event: int) -> None:
    """Returns when the pipe can be written, or read, or is broken."""
    poll = select.poll()
    poll.register(pipe, event)
    if not poll.poll(_TIMEOUT.total_seconds() * 1000):
        raise TimeoutError(f"nothing moved for {_TIMEOUT.total_seconds():.0f} s")


def _hear(rank: int, other: "subprocess.Popen[bytes]") -> None:
    """Its first line, which says that it is ready."""
    line = other.stdout.readline() if other.stdout is not None else b""
    said = json.loads(line) if line else {"refused": f"rank {rank} {_ending(other)}"}
    if "refused" in said:
        raise RuntimeMismatch(said["refused"].rstrip("."), "Nothing was served")


def _ending(other: "subprocess.Popen[bytes]") -> str:
    code = other.wait()
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"
