"""Publish, pull and pack against s5cmd, boto3 and GNU tar, alternating on one SeaweedFS.

Prints medians of wall and CPU seconds, the server's too, and the ratios. Our pull verifies every
byte and s5cmd's hashes none; our publish verifies what it sends. "pull unhashed" is our pull with
the hash left out: the difference is what verifying costs. "pull again" finds everything there: it
is what starting costs. "hash" is BLAKE3 alone, over as many bytes in memory. The ratios "by CPU"
are what walls would be, were all cores busy from the first to the last moment, a start alone on
one: for our pull, and for s5cmd, did it hash: that is as near as a pull that verifies can come.

    python benchmarks/transfer.py [--size GB] [--rounds N] [--rss GB]
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "servers"))
from s3servers import KEY, SECRET, Seaweed, Server

_FIGURES = ("wall", "cpu", "server", "rss")
_BLOCK = 32 * 2**20
_OURS = """
import json, resource, sys, time
from pathlib import Path
from lmi_artifacts.registry import open_registry
from lmi_artifacts.manifest import Manifest
from lmi_artifacts.reference import parse_reference, ArtifactRef
verb, url, first, second = sys.argv[1:]
registry = open_registry(url) if url.startswith("s3://") else None
if verb == "publish":
    registry.publish(Path(first), Manifest.parse(Path(second).read_bytes()))
elif verb.startswith("pull"):
    manifest = Manifest.parse(Path(first).read_bytes())
    if verb == "pull-unhashed":
        from lmi_artifacts.s3 import download
        class Unchecked:
            def __init__(self, file): pass
            def update(self, data): pass
            def problem(self): return None
        download.Checked = Unchecked
    registry.pull(ArtifactRef(name=manifest.name, digest=manifest.digest), Path(second))
elif verb == "pack":
    from lmi_artifacts.bundle import write_tar_gz
    write_tar_gz(Path(first), Manifest.parse(Path(first + ".json").read_bytes()), Path(second))
elif verb == "boto3-up":
    import boto3
    s3 = boto3.client("s3", endpoint_url=url, region_name="us-east-1")
    bucket, _, key = second.partition("/")
    for path in Path(first).iterdir():
        s3.upload_file(str(path), bucket, f"{key}/{path.name}")
elif verb == "boto3-down":
    import boto3
    s3 = boto3.client("s3", endpoint_url=url, region_name="us-east-1")
    bucket, _, key = first.partition("/")
    Path(second).mkdir()
    for item in s3.list_objects_v2(Bucket=bucket, Prefix=key)["Contents"]:
        s3.download_file(bucket, item["Key"], f"{second}/" + item["Key"].rpartition("/")[2])
"""


def _cpu_of(process: int) -> float:
    """CPU seconds that a process has had; 0 is none."""
    if not process:
        return 0.0
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _run(argv: list[str], server: int = 0) -> dict[str, float]:
    """Wall seconds, CPU seconds, the server's, and peak RSS (MiB) of one command."""
    before = _cpu_of(server)
    started = time.monotonic()
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"failed ({process.returncode}): {argv[:6]}")
    return {
        "wall": time.monotonic() - started,
        "cpu": used.ru_utime + used.ru_stime,
        "server": _cpu_of(server) - before,
        "rss": used.ru_maxrss / 1024,
    }


def _ours(*argv: str, server: int = 0) -> dict[str, float]:
    return _run([sys.executable, "-c", _OURS, *argv], server)


def _hashing(size: int) -> dict[str, float]:
    """What BLAKE3 costs, over bytes that are in memory."""
    from blake3 import blake3  # noqa: PLC0415 - heavy for --help

    block = os.urandom(_BLOCK)
    began, started = time.process_time(), time.monotonic()
    found = blake3()
    for _ in range(size // _BLOCK):
        found.update(block)
    cpu = time.process_time() - began
    return {"wall": time.monotonic() - started, "cpu": cpu, "server": 0.0, "rss": 0.0}


def _make(folder: Path, size: int) -> None:
    """A tree like a model's: fp16-like weights in two files, and small files."""
    import random  # noqa: PLC0415 - only here

    folder.mkdir()
    (folder / "serving.properties").write_text("engine=Python\n")
    block = bytearray(random.Random(7).randbytes(_BLOCK))  # noqa: S311 - data, not secrets
    block[1::2] = bytes(0x3C | (byte & 0x83) for byte in block[1::2])  # fp16 of small numbers
    for number in range(2):
        with (folder / f"model-{number}.safetensors").open("wb") as out:
            left = size // 2
            while left > 0:
                block[:8] = os.urandom(8)
                out.write(block[: min(left, len(block))])
                left -= len(block)


def _seal(tree: Path, name: str) -> Path:
    from lmi_artifacts.manifest import Manifest  # noqa: PLC0415 - heavy for --help
    from lmi_artifacts.tree import scan_tree  # noqa: PLC0415 - as above

    manifest = Manifest(
        name=name, recipe={}, toolchain={}, build_key="0" * 64, steps={}, serving={}, licence=None,
        simulated=False, files=scan_tree(tree),
    )  # fmt: skip
    path = tree.with_name(tree.name + ".json")
    path.write_bytes(manifest.to_bytes())
    return path


def _empty(server: Server, bucket: str) -> None:
    s3 = server.client()
    while items := s3.list_objects_v2(Bucket=bucket).get("Contents", []):
        s3.delete_objects(
            Bucket=bucket, Delete={"Objects": [{"Key": item["Key"]} for item in items]}
        )
    s3.delete_bucket(Bucket=bucket)  # SeaweedFS gives a disk's room back with the bucket
    s3.create_bucket(Bucket=bucket)


def _transfers(
    server: Server, process: int, work: Path, tree: Path, sealed: Path
) -> dict[str, Callable[[], dict[str, float]]]:
    size = sum(path.stat().st_size for path in tree.iterdir())
    s5 = ["s5cmd", "--endpoint-url", server.endpoint, "--log", "error"]
    down = work / "down"
    ours = server.url("ours", "r")
    python = partial(_ours, server=process)

    def fresh() -> str:
        shutil.rmtree(down, ignore_errors=True)
        return str(down)

    def publish() -> dict[str, float]:
        _empty(server, "ours")
        return python("publish", ours, str(tree), str(sealed))

    def s5_up() -> dict[str, float]:
        _empty(server, "peer")
        return _run([*s5, "cp", f"{tree}/*", "s3://peer/r/"], process)

    def boto3_up() -> dict[str, float]:
        _empty(server, "plain")
        return python("boto3-up", server.endpoint, str(tree), "plain/r")

    return {
        "publish": publish,
        "s5cmd up": s5_up,
        "boto3 up": boto3_up,
        "s5cmd down": lambda: _run([*s5, "cp", "s3://peer/r/*", fresh() + "/"], process),
        "pull": lambda: python("pull", ours, str(sealed), fresh()),
        "pull again": lambda: python("pull", ours, str(sealed), str(down)),
        "pull unhashed": lambda: python("pull-unhashed", ours, str(sealed), fresh()),
        "boto3 down": lambda: python("boto3-down", server.endpoint, "plain/r", fresh()),
        "hash": lambda: _hashing(size),
    }


def _packing(work: Path, tree: Path) -> dict[str, Callable[[], dict[str, float]]]:
    out = work / "model.tar.gz"

    def pack() -> dict[str, float]:
        out.unlink(missing_ok=True)
        return _ours("pack", "", str(tree), str(out))

    def tar() -> dict[str, float]:
        out.unlink(missing_ok=True)
        return _run(["tar", "czf", str(out), "-C", str(tree), "."])

    return {"pack": pack, "tar czf": tar}


def _alternate(
    jobs: dict[str, Callable[[], dict[str, float]]], rounds: int
) -> dict[str, dict[str, float]]:
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in jobs}
    for number in range(rounds):
        for name, job in jobs.items():
            taken[name].append(job())
            shown = taken[name][-1]
            print(f"  {number + 1}/{rounds} {name:<12} {shown['wall']:6.1f} s", file=sys.stderr)
    return {
        name: {key: statistics.median(item[key] for item in items) for key in _FIGURES}
        for name, items in taken.items()
    }


def main() -> None:
    """Run, print a table and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=float, default=2.0, help="GB to publish and pull")
    parser.add_argument("--pack-size", type=float, default=0.2, help="GB to pack")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rss", type=float, default=0.0, help="then once with so many GB")
    parser.add_argument("--down", action="store_true", help="upload once, alternate downloads")
    asked = parser.parse_args()
    os.environ |= {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
    os.environ |= {"AWS_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true"}
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package has its bytecode
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with tempfile.TemporaryDirectory(prefix="transfer") as folder, ExitStack() as stack:
        work = Path(folder)
        (work / "weed").mkdir()
        weed = Seaweed(work / "weed")
        stack.callback(weed.kill)
        server, process = Server(kind="seaweed", endpoint=weed.endpoint), weed.process.pid
        for bucket in ("ours", "peer", "plain"):
            server.bucket(bucket)
        found: dict[str, dict[str, float]] = {}
        if asked.size:
            tree = work / "tree"
            _make(tree, int(asked.size * 1e9))
            sealed = _seal(tree, "bench")
            jobs = _transfers(server, process, work, tree, sealed)
            if asked.down:
                up = {name: jobs.pop(name) for name in ("publish", "s5cmd up", "boto3 up")}
                found |= _alternate(up, 1)
            found |= _alternate(jobs, asked.rounds)
            shutil.rmtree(tree)
            shutil.rmtree(work / "down", ignore_errors=True)
        if asked.pack_size:
            small = work / "small"
            _make(small, int(asked.pack_size * 1e9))
            _seal(small, "bench")
            found |= _alternate(_packing(work, small), asked.rounds)
            shutil.rmtree(small)
        if asked.rss:
            for bucket in ("ours", "peer", "plain"):
                _empty(server, bucket)
            tree = work / "big"
            _make(tree, int(asked.rss * 1e9))
            jobs = _transfers(server, process, work, tree, _seal(tree, "big"))
            found[f"publish {asked.rss:g} GB"] = jobs["publish"]()
            shutil.rmtree(tree)  # the server and the pull need the room
            found[f"pull {asked.rss:g} GB"] = jobs["pull"]()
    _report(found)


def _by_cpu(found: dict[str, dict[str, float]]) -> dict[str, float]:
    cores = len(os.sched_getaffinity(0))
    cpu = {name: item["cpu"] + item["server"] for name, item in found.items()}
    start = cpu["pull again"]
    peer, pull = cpu["s5cmd down"] / cores, start + (cpu["pull"] - start) / cores
    return {
        "by CPU: pull / s5cmd down": round(peer / pull, 2),
        "by CPU: s5cmd with a hash / s5cmd down": round(peer / (peer + cpu["hash"] / cores), 2),
    }


def _report(found: dict[str, dict[str, float]]) -> None:
    for name, item in found.items():
        seconds = (f"{item[key]:6.2f} s {key}" for key in ("wall", "cpu", "server"))
        print(f"{name:<16} {'  '.join(seconds)} {item['rss']:6.0f} MiB")
    ratios = {
        f"{one} / {two}": round(found[two]["wall"] / found[one]["wall"], 2)
        for one, two in (
            ("publish", "s5cmd up"), ("pull", "s5cmd down"),
            ("pull unhashed", "s5cmd down"), ("publish", "boto3 up"),
            ("pull", "boto3 down"), ("pack", "tar czf"),
        )
        if one in found
    }  # fmt: skip
    if "hash" in found:
        ratios |= _by_cpu(found)
    print(json.dumps({"times as fast as the peer": ratios, "medians": found}))


if __name__ == "__main__":
    main()
