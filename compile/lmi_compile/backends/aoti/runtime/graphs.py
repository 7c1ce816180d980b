"""The compiled graphs with their weights, ready to run.

AOTInductor's libraries take any tensor without a word: a wrong shape, type or stride reads
foreign memory. Everything is therefore checked here, once at load for the weights and at each
call for the inputs. The weights are mapped from the file once and shared by both graphs.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from . import device, environment, ranks, threads
from .environment import RuntimeMismatch

_DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float8_e4m3fn": torch.float8_e4m3fn,
    "int8": torch.int8,
    "uint8": torch.uint8,
    "int32": torch.int32,
    "int64": torch.int64,
}


class LimitExceeded(Exception):
    """The text is longer than the graphs were compiled for, or a token does not exist."""


class Graphs:
    """Prefill and decode over the key/value slots of up to `batch` sequences.

    Attributes:
        description: `runtime.json`.
        max_input_len: The longest prompt.
        max_seq_len: The longest prompt and continuation together.
        vocab_size: V.
        batch: Sequences that one decode step takes.
        threads: The thread decision, for the log.
    """

    def __init__(self, root: Path, rank: int = 0) -> None:
        """Checks the tree and the environment, then loads without writing anywhere.

        Args:
            root: The packaged tree.
            rank: Whose tensors of a split model; rank 0 starts the others and leads them.

        Raises:
            RuntimeMismatch: The tree is incomplete, or this machine cannot run it.
        """
        self.description = environment.load_description(root)
        environment.check(self.description["requires"])
        self._device = device.device_for(self.description["requires"])
        self.threads = threads.decide()
        degree = int(self.description["model"]["tensor_parallel_degree"])
        leads = degree > 1 and not rank
        if leads:
            self.threads = threads.shared(self.threads, degree)
        torch.set_num_threads(self.threads.count)
        limits = self.description["limits"]
        self.max_input_len = int(limits["max_input_len"])
        self.max_seq_len = int(limits["max_seq_len"])
        self.vocab_size = int(limits["vocab_size"])
        self.batch = int(limits["max_batch_size"])
        self._peer = None if degree == 1 else ranks.Peer(rank, degree, self.description)
        self._ranks = ranks.Ranks(root, degree, self.threads.count) if leads else None
        with ExitStack() as undo:
            if self._ranks is not None:
                undo.callback(self._ranks.end)
            self._load(root, rank, degree)
            if self._ranks is not None and self._peer is not None:
                self._ranks.ready(self._peer)
            undo.pop_all()

    def _load(self, root: Path, rank: int, degree: int) -> None:
        tensors = map_tensors(root, self.description, rank, degree)
        for name, packing in self.description["packed"].items():
            tensors[name] = kernel_weight(tensors[packing["source"]], packing["kernel"])
        tensors = {name: tensor.to(self._device) for name, tensor in tensors.items()}
        self._runners = {
            name: load_library(root, graph, tensors, self._device)
            for name, graph in self.description["graphs"].items()
        }
        self._runners.setdefault("decode_one", self._runners["decode"])
        self._tensors = tensors  # the libraries hold bare pointers into these
        dtype = _DTYPES[self.description["slot_dtype"]]
        self._slots = [
            torch.zeros(
                self.batch, heads, self.max_seq_len, width, dtype=dtype, device=self._device
            )
            for layer in self.description["cache"]
            for heads, width in layer
        ]

    def prefill(self, ids: torch.Tensor, rows: torch.Tensor, slot: int = 0) -> torch.Tensor:
        """Reads a text from its beginning into the slots of one sequence.

        Args:
            ids: int64 `[T]`, 1 <= T <= max_input_len.
            rows: int64 `[R]`, the positions whose logits are wanted, 1 <= R <= max_input_len.
            slot: Whose, 0 <= slot < batch.

        Returns:
            float32 `[R, V]`; row i predicts the token after position `rows[i]`.

        Raises:
            LimitExceeded: A length or a number is outside the limits.
        """
        self._check_ids(ids, self.max_input_len)
        _check_vector("rows", rows, self.max_input_len)
        _check_range("row", rows, len(ids))
        return self._run("prefill", ids[None].contiguous(), rows, slot)

    def decode(self, token: int, position: int, slot: int = 0) -> torch.Tensor:
        """Adds one token to the text of one sequence, through the graph for one.

        Args:
            token: Its id.
            position: Where it stands; everything before it must have been read.
            slot: Whose, 0 <= slot < batch.

        Returns:
            float32 `[V]`, which predict the token at `position + 1`.

        Raises:
            LimitExceeded: The token, the position or the slot is outside the limits.
        """
        ids, places = torch.tensor([token]), torch.tensor([position])
        self._check_ids(ids, 1)
        _check_range("position", places, self.max_seq_len)
        return self._run("decode_one", ids[:, None], places, slot)[0]

    def step(self, tokens: Sequence[int], positions: Sequence[int]) -> torch.Tensor:
        """Adds one token to the text of every sequence.

        Args:
            tokens: One id per sequence.
            positions: Where each stands. A sequence that nobody reads takes token 0 at position 0,
                which the next prefill overwrites.

        Returns:
            float32 `[batch, V]`.

        Raises:
            LimitExceeded: Too many or too few, or a token or a position is outside the limits.
        """
        ids = torch.tensor(tokens, dtype=torch.int64)
        places = torch.tensor(positions, dtype=torch.int64)
        if len(ids) != self.batch or len(places) != self.batch:
            found = f"{len(ids)} tokens and {len(places)} positions"
            raise LimitExceeded(f"{found}: a step takes {self.batch} of each")
        self._check_ids(ids, self.batch)
        _check_range("position", places, self.max_seq_len)
        return self._run("decode", ids[:, None], places, None)

    def join(self, store: Path) -> None:
        """As a rank other than 0: meets the others."""
        if self._peer is not None:
            self._peer.join(store)

    def follow(self, asked: Mapping[str, Any]) -> torch.Tensor:
        """As a rank other than 0: runs its part of what rank 0 runs; logits `[rows, own words]`."""
        ids, second = torch.tensor(asked["ids"]), torch.tensor(asked["second"])
        return self._compute(asked["graph"], ids, second, asked["slot"])

    def _run(
        self, graph: str, ids: torch.Tensor, second: torch.Tensor, slot: int | None
    ) -> torch.Tensor:
        """The logits of a graph for one slot, or for all of them."""
        if slot is not None:
            self._of(slot)  # refused before any rank is told of it
        if self._ranks is None:
            return self._compute(graph, ids, second, slot)
        asked = {"graph": graph, "ids": ids.tolist(), "second": second.tolist(), "slot": slot}
        with self._ranks.together(asked):
            own = self._compute(graph, ids, second, slot)
            return self._ranks.whole(own, self.vocab_size)

    def _compute(
        self, graph: str, ids: torch.Tensor, second: torch.Tensor, slot: int | None
    ) -> torch.Tensor:
        slots = self._slots if slot is None else self._of(slot)
        own = ids if self._peer is None else self._peer.own(ids)
        asked = [own.to(self._device), second.to(self._device), *slots]
        out: torch.Tensor = self._runners[graph].run(asked)[0]
        return out.cpu()

    def _of(self, slot: int) -> list[torch.Tensor]:
        if not 0 <= slot < self.batch:
            raise LimitExceeded(f"slot {slot} is outside 0..{self.batch - 1}")
        return [slots[slot : slot + 1] for slots in self._slots]

    def _check_ids(self, ids: torch.Tensor, longest: int) -> None:
        _check_vector("token ids", ids, longest)
        _check_range("token id", ids, self.vocab_size)


def _check_vector(name: str, tensor: torch.Tensor, longest: int) -> None:
    if tensor.dtype != torch.int64 or tensor.dim() != 1 or tensor.device.type != "cpu":
        what = f"{name} must be an int64 vector, not {tensor.dtype} {list(tensor.shape)}"
        raise LimitExceeded(what)
    if not 1 <= len(tensor) <= longest:
        raise LimitExceeded(f"{len(tensor)} {name}: the graphs take 1 to {longest}")


def _check_range(name: str, tensor: torch.Tensor, end: int) -> None:
    low, high = int(tensor.min()), int(tensor.max())
    if low < 0 or high >= end:
        raise LimitExceeded(f"{name} {low if low < 0 else high} is outside 0..{end - 1}")


def map_tensors(
    root: Path, description: Mapping[str, Any], rank: int, degree: int
) -> dict[str, torch.Tensor]:
    """Every tensor that the description names, mapped from its file and compared with it.

    Args:
        root: The packaged tree.
        description: Its `runtime.json`.
        rank: Whose weights, from 0.
        degree: How many ranks there are.

    Returns:
        Tensors by name, of the shapes and types that the description lists.

    Raises:
        RuntimeMismatch: A file holds other tensors, or is another rank's or another build's.
    """
    tensors: dict[str, torch.Tensor] = {}
    for listed, expected in description["tensors"].items():
        shard = degree > 1 and listed == _WEIGHTS
        file = f"weights-{rank}-of-{degree}.safetensors" if shard else listed
        with safe_open(root / file, framework="pt") as opened:
            if shard:
                _check_shard(file, opened.metadata() or {}, description, rank)
            held = set(opened.keys())
            if held != set(expected):
                strange = sorted(held ^ set(expected))[:4]
                raise RuntimeMismatch(f"{file} does not hold what the graphs want: {strange}", _FIX)
            for name, want in expected.items():
                tensor = opened.get_tensor(name)
                if list(tensor.shape) != want["shape"] or tensor.dtype != _DTYPES[want["dtype"]]:
                    found = f"{tensor.dtype} {list(tensor.shape)}"
                    raise RuntimeMismatch(f"{file}: {name} is {found}, not {want}", _FIX)
                tensors[name] = tensor
    return tensors


def _check_shard(
    file: str, said: Mapping[str, str], description: Mapping[str, Any], rank: int
) -> None:
    if said.get("rank") != str(rank):
        raise RuntimeMismatch(f"{file} holds rank {said.get('rank')}, not rank {rank}", _FIX)
    if said.get("build") != description["parallel"]["build"]:
        raise RuntimeMismatch(f"{file} is of another build than the graphs", _FIX)


def kernel_weight(weight: torch.Tensor, kernel: str) -> torch.Tensor:
    """A weight as a kernel of this processor wants it, in memory of its own.

    Args:
        weight: uint8 `[out, in / 2]` of `int4`, two numbers a byte; else int8 `[in, out]`.
        kernel: `int4`, or oneDNN's matmul of whole numbers.
    """
    packed: torch.Tensor
    if kernel == "int4":
        whole = torch.cat([weight & 15, weight >> 4], -1).to(torch.int32)
        packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(whole, 1)  # noqa: SLF001 - the op has no public name
    else:
        packed = torch.ops.onednn.qlinear_prepack(weight, None)
    return packed


def load_library(
    root: Path,
    graph: Mapping[str, Any],
    tensors: Mapping[str, torch.Tensor],
    place: torch.device = device.CPU,
) -> device.Runner:
    """One library with its constants, which stay the caller's.

    Args:
        root: The packaged tree.
        graph: `library` and `constants` of it, from `runtime.json`.
        tensors: As `map_tensors` gives them; they must outlive the library.
        place: Where it runs.

    Raises:
        RuntimeMismatch: The library wants other constants than are listed.
    """
    library = graph["library"]
    runner = device.open_library(str(root / library), place)
    wanted = runner.get_constant_names_to_original_fqns()
    if set(wanted.values()) != set(graph["constants"]):
        raise RuntimeMismatch(f"{library} wants other constants than runtime.json lists", _FIX)
    given = {key: tensors[graph["constants"][name]] for key, name in wanted.items()}
    try:
        runner.update_constant_buffer(given, False, True, True)  # noqa: FBT003 - a C++ binding: active buffer, all at once, memory stays ours
    except TypeError:  # torch 2.7 has three arguments, and its library keeps copies of its own
        runner.update_constant_buffer(given, False, True)  # noqa: FBT003 - as above
    return runner


_FIX = "Package the model again"
_WEIGHTS = "weights.safetensors"
