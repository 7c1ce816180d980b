"""A model split over processes: built, judged, proven, served; and what happens when one dies."""

import json
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from lmi import Lmi, Tiny

pytestmark = pytest.mark.slow
_LIMIT = 120  # seconds; ranks import torch on machines that do other things as well
_BODY = {"inputs": "and the thing is", "parameters": {"max_new_tokens": 40, "details": True}}


@dataclass(frozen=True, kw_only=True)
class Split:
    """A build of the tiny model over several ranks."""

    lmi: Lmi
    degree: int
    built: dict[str, Any]

    @property
    def tree(self) -> Path:
        return Path(self.built["path"])

    def out(self, step: str, degree: int | None = None) -> Path:
        """A finished step's outputs."""
        asked = f"tensor_parallel_degree={self.degree if degree is None else degree}"
        plan = self.lmi("plan", self.lmi.home / "tiny.yaml", "--set", asked, "--json").json()
        (key,) = [one["key"] for one in plan["steps"] if one["name"] == step]
        return self.lmi.home / "cache" / "steps" / key / "out"


@pytest.fixture(
    scope="module", params=[2, pytest.param(4, marks=pytest.mark.families)], ids=lambda n: f"tp{n}"
)
def split(tiny: Tiny, request: pytest.FixtureRequest) -> Split:
    degree: int = request.param
    asked = f"tensor_parallel_degree={degree}"
    ended = tiny.lmi(tiny.lmi.home / "tiny.yaml", "--set", asked, "--json")
    assert ended.code == 0, ended.err
    return Split(lmi=tiny.lmi, degree=degree, built=ended.json())


@contextmanager
def _running(tree: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The tree's own worker on a pipe."""
    worker = subprocess.Popen(
        [sys.executable, "-m", "lmi_aoti_runtime.pipe"],
        cwd=tree,
        env={
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": str(tree),
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": "1",
        },
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        yield worker
    finally:
        worker.kill()
        worker.communicate()


def _said(worker: subprocess.Popen[bytes]) -> dict[str, Any]:
    assert worker.stdout is not None
    line = worker.stdout.readline()
    assert line, "the worker ended"
    found: dict[str, Any] = json.loads(line)
    return found


def _ask(worker: subprocess.Popen[bytes]) -> None:
    assert worker.stdin is not None
    asked = {"id": 1, "body": _BODY, "special_tokens": True, "fill": False}
    worker.stdin.write(json.dumps(asked).encode() + b"\n")
    worker.stdin.flush()


def _tokens(worker: subprocess.Popen[bytes]) -> list[int]:
    """Of one whole answer."""
    _ask(worker)
    tokens = []
    while "done" not in (told := _said(worker)):
        assert "error" not in told, told
        if "token" in told:
            tokens.append(told["token"]["id"])
    return tokens


def _together(worker: subprocess.Popen[bytes], prompts: list[str]) -> list[list[int]]:
    """The tokens of requests that are asked at once."""
    assert worker.stdin is not None
    for number, prompt in enumerate(prompts):
        body = {"inputs": prompt, "parameters": {"max_new_tokens": 24}}
        asked = {"id": number, "body": body, "special_tokens": True, "fill": False}
        worker.stdin.write(json.dumps(asked).encode() + b"\n")
    worker.stdin.flush()
    tokens: list[list[int]] = [[] for _ in prompts]
    ended = 0
    while ended < len(prompts):
        told = _said(worker)
        assert "error" not in told, told
        ended += "done" in told
        if "token" in told:
            tokens[told["id"]].append(told["token"]["id"])
    return tokens


def _ranks(worker: subprocess.Popen[bytes]) -> list[int]:
    """Its child processes, in the order in which they were started."""
    threads = Path(f"/proc/{worker.pid}/task")
    found = [
        int(pid) for one in threads.iterdir() for pid in (one / "children").read_text().split()
    ]
    return sorted(found)


def _wait_until_gone(pids: list[int]) -> None:
    """Ended, whether or not somebody has asked how: that is all init may be slow in."""
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            readable, _, _ = select.select([descriptor], [], [], _LIMIT)
            assert readable, f"process {pid} lives on"
        finally:
            os.close(descriptor)


def _mapped(pid: int) -> set[str]:
    """The files of weights that a process has in memory."""
    lines = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8").splitlines()
    files = {line.rpartition("/")[2] for line in lines if "/" in line}
    return {name for name in files if name.startswith("weights")}


def test_it_is_verified_proven_and_says_its_degree(split: Split) -> None:
    built = split.built
    assert (built["decision"], built["proof"]) == ("ACCEPT", "PROVEN")
    shown = split.lmi("show", built["artifact"], "--json").json()
    assert shown["manifest"]["recipe"]["tensor_parallel_degree"] == split.degree
    runtime = json.loads((split.tree / "runtime.json").read_bytes())
    assert runtime["model"]["tensor_parallel_degree"] == split.degree
    (proof,) = [
        one["predicate"] for one in shown["statements"] if ":no-jit-proof:" in one["predicateType"]
    ]
    ranks = {event["path"] for event in proof["noted"] if event["kind"] == "rank"}
    assert ranks == {f"rank {rank}" for rank in range(1, split.degree)}
    assert any("those of the ranks" in line for line in proof["checked"])


def test_its_logits_and_tokens_are_those_of_one_rank(split: Split) -> None:
    from safetensors.torch import load_file  # noqa: PLC0415 - light until here

    whole = load_file(split.out("candidate", 1) / "outputs.safetensors")
    found = load_file(split.out("candidate") / "outputs.safetensors")
    assert set(found) == set(whole)
    compared = 0
    for name, tensor in whole.items():
        if name.endswith("_logits"):
            assert (found[name] - tensor).abs().max() <= 1e-4 * tensor.abs().max(), name
            compared += 1
        elif name.endswith("generated_ids"):
            assert found[name].tolist() == tensor.tolist(), name
    assert compared > 10


def test_the_shards_together_are_the_models_weights_bit_for_bit(split: Split) -> None:
    import torch  # noqa: PLC0415 - light until here
    from safetensors.torch import load_file  # noqa: PLC0415 - the same

    from lmi_compile.backends.aoti.parallel import read_split, shard_name  # noqa: PLC0415
    from lmi_compile.backends.aoti.weights import merged  # noqa: PLC0415

    runtime = json.loads((split.tree / "runtime.json").read_bytes())
    shards = [
        load_file(split.tree / shard_name(rank, split.degree)) for rank in range(split.degree)
    ]
    source = load_file(split.lmi.home / "model" / "model.safetensors")
    assert not (split.tree / "weights.safetensors").exists()
    for name in shards[0]:
        how = read_split(runtime["parallel"]["splits"][name])
        whole = merged([shard[name] for shard in shards], how)
        stored = source[name if name in source else "model.embed_tokens.weight"]
        assert torch.equal(whole, stored), name
    largest = max(sum(tensor.nbytes for tensor in shard.values()) for shard in shards)
    assert largest < sum(tensor.nbytes for tensor in source.values())


def test_each_rank_maps_its_own_shard_and_a_death_ends_all_with_words(
    split: Split, tiny: Tiny
) -> None:
    with _running(Path(tiny.built["path"])) as alone:
        assert "ready" in _said(alone)
        expected = _tokens(alone)
    with _running(split.tree) as worker:
        assert "ready" in _said(worker)
        ranks = _ranks(worker)
        held = [_mapped(pid) for pid in (worker.pid, *ranks)]
        assert held == [
            {f"weights-{rank}-of-{split.degree}.safetensors"} for rank in range(split.degree)
        ]
        assert _tokens(worker) == expected
        _ask(worker)
        while "token" not in _said(worker):
            pass
        os.kill(ranks[-1], signal.SIGKILL)
        while "error" not in (told := _said(worker)):
            assert "done" not in told
        assert told["error"]["code"] == 503
        dead = f"rank {split.degree - 1} of {split.degree} was ended by SIGKILL"
        assert told["error"]["error"] == f"{dead}; the model must be started again"
        assert worker.wait(_LIMIT) == 1
        _wait_until_gone(ranks)


@pytest.mark.families
def test_a_rank_that_hangs_ends_all_with_words(split: Split) -> None:
    with _running(split.tree) as worker:
        assert "ready" in _said(worker)
        ranks = _ranks(worker)
        _ask(worker)
        while "token" not in _said(worker):
            pass
        os.kill(ranks[-1], signal.SIGSTOP)
        while "error" not in (told := _said(worker)):
            assert "done" not in told
        assert told["error"]["code"] == 503
        assert "the ranks do not answer" in told["error"]["error"]
        assert worker.wait(_LIMIT) == 1
        _wait_until_gone(ranks)


@pytest.mark.families
def test_several_requests_at_once_are_answered_as_each_alone(tiny: Tiny) -> None:
    asked = ("tensor_parallel_degree=2", "shapes.max_batch_size=3")
    sets = [word for one in asked for word in ("--set", one)]
    ended = tiny.lmi(tiny.lmi.home / "tiny.yaml", *sets, "--json")
    assert ended.code == 0, ended.err
    built = ended.json()
    assert (built["decision"], built["proof"]) == ("ACCEPT", "PROVEN")
    prompts = ["and the thing is", "the", "on the ground; and the other", "a thing", "is"]
    with _running(Path(built["path"])) as worker:
        assert "ready" in _said(worker)
        alone = [_together(worker, [prompt])[0] for prompt in prompts]
        assert all(len(tokens) > 1 for tokens in alone)
        assert _together(worker, prompts) == alone


def test_no_rank_outlives_the_process_that_serves(split: Split) -> None:
    with _running(split.tree) as worker:
        assert "ready" in _said(worker)
        ranks = _ranks(worker)
        assert len(ranks) == split.degree - 1
        worker.kill()
        _wait_until_gone(ranks)


def _lost(tree: Path) -> str:
    (tree / "weights-1-of-2.safetensors").unlink()
    return "the package lacks weights-1-of-2.safetensors"


def _of_another_build(tree: Path) -> str:
    path, runtime = tree / "weights-1-of-2.safetensors", tree / "runtime.json"
    build = json.loads(runtime.read_bytes())["parallel"]["build"].encode()
    data = path.read_bytes()
    assert data.count(build) == 1
    path.write_bytes(data.replace(build, build[::-1]))
    return "weights-1-of-2.safetensors is of another build than the graphs"


def _of_another_rank(tree: Path) -> str:
    shutil.copyfile(tree / "weights-1-of-2.safetensors", tree / "weights-0-of-2.safetensors")
    return "weights-0-of-2.safetensors holds rank 1, not rank 0"


@pytest.mark.parametrize("damage", [_lost, _of_another_build, _of_another_rank])
def test_a_shard_that_is_not_the_ranks_own_is_refused_at_load(
    split: Split, tmp_path: Path, damage: Any
) -> None:
    if split.degree != 2:
        pytest.skip("two ranks show it")
    shutil.copytree(split.tree, tmp_path / "tree")
    says = damage(tmp_path / "tree")
    with _running(tmp_path / "tree") as worker:
        assert says in _said(worker)["refused"]
        assert worker.wait(_LIMIT) == 1


def test_a_degree_that_does_not_divide_is_exit_3_and_names_those_that_do(tiny: Tiny) -> None:
    asked = ("plan", tiny.lmi.home / "tiny.yaml", "--set", "tensor_parallel_degree=3")
    ended = tiny.lmi(*asked)
    assert ended.code == 3
    assert "which 1 or 2 or 4 would" in ended.err
    smollm2 = ("plan", "smollm2-135m-instruct-cpu", "--set", "tensor_parallel_degree=2")
    refused = tiny.lmi(*smollm2)
    assert refused.code == 3
    assert "which 1 or 3 would" in refused.err
