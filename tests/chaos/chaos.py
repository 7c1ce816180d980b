"""`make chaos`: a faulty network, and kill -9 of publisher, puller, collector and server.

Each run ends with the same questions, asked of a healthy connection: is anything visible that is
not whole, has anybody got bytes that are not the artifact's, and does gc leave exactly the live
objects?
"""

import argparse
import contextlib
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

sys.path.insert(0, str(Path(__file__).parents[1] / "servers"))
from faulty_proxy import FaultyProxy
from s3servers import KEY, SECRET, Bucket, Seaweed, Server

from lmi_artifacts.errors import ArtifactsError
from lmi_artifacts.manifest import Manifest
from lmi_artifacts.reference import ArtifactRef
from lmi_artifacts.registry import open_registry
from lmi_artifacts.s3 import download, publishing, upload
from lmi_artifacts.s3.registry import S3Registry
from lmi_artifacts.tree import check_tree, scan_tree

POINTS = (
    "before the first part", "between parts", "between complete and manifest",
    "between manifest and tag", "during gc",
)  # fmt: skip
SMALL_PART = 5 * 2**20  # the smallest that S3 takes
WEIGHTS = 11_000_000  # three parts


@dataclass(frozen=True, kw_only=True)
class Act:
    """What a child does, and where it ends: at the point, after `skip` times of passing it."""

    verb: Literal["publish", "pull", "gc"]
    url: str
    tree: Path
    manifest: Manifest
    point: str = ""
    skip: int = 0
    victim: int = 0
    """Process group to kill there; 0 is the child itself."""

    def run(self, log: int) -> None:
        """Do it, in a child."""
        os.dup2(log, 2)
        registry = open_registry(self.url)
        assert isinstance(registry, S3Registry)
        try:
            match self.verb:
                case "publish":
                    registry.checkpoint = self._stop_after()
                    registry.publish(self.tree, self.manifest, tags=["t"], action_key="1" * 64)
                case "pull":
                    stop = self._stop_after()
                    registry.progress = lambda _: stop("between parts")
                    registry.pull(_ref(self.manifest), self.tree)
                case "gc":
                    _delete_singly(registry, self._stop_after())
                    registry.collect_garbage(older_than=0, dry_run=False)
        except ArtifactsError as error:
            sys.stderr.write(f"{type(error).__name__} {str(error)[:200]!r}\n")
            sys.exit(3)

    def _stop_after(self) -> Callable[[str], None]:
        left = self.skip

        def stop(where: str) -> None:
            nonlocal left
            if where != self.point:
                return
            left -= 1
            if left == -1:
                if self.victim:
                    os.killpg(self.victim, signal.SIGKILL)
                else:
                    os.kill(os.getpid(), signal.SIGKILL)

        return stop


def _delete_singly(registry: S3Registry, stop: Callable[[str], None]) -> None:
    delete = registry.store.delete

    def counted(keys: Sequence[str]) -> None:
        for key in keys:
            stop("during gc")
            delete([key])

    registry.store.delete = counted  # type: ignore[method-assign] - so that a kill falls between


def _ref(manifest: Manifest) -> ArtifactRef:
    return ArtifactRef(name=manifest.name, digest=manifest.digest)


class Chaos:
    """One server, one bucket after another, and what went wrong."""

    def __init__(self, work: Path, seed: int) -> None:
        self.work = work
        self.random = random.Random(seed)
        self.weed = Seaweed(work)
        self.server = Server(kind="seaweed", endpoint=self.weed.endpoint)
        self.log = (work / "children.log").open("wb")
        self.ends: Counter[str] = Counter()
        self.kills: Counter[str] = Counter()
        self.runs = self.incomplete = self.wrong = self.rubbish = 0

    def tree(self, number: int) -> tuple[Path, Manifest]:
        """A new tree: a file of some parts, small ones, and its manifest."""
        tree = self.work / f"tree{number}"
        tree.mkdir()
        (tree / "weights.safetensors").write_bytes(self.random.randbytes(WEIGHTS))
        for name in ("a", "b", "c"):
            (tree / name).write_bytes(self.random.randbytes(3000))
        manifest = Manifest(
            name="chaos", recipe={}, toolchain={}, build_key=str(number), steps={}, serving={},
            licence=None, simulated=False, files=scan_tree(tree),
        )  # fmt: skip
        return tree, manifest

    def run(self, number: int, point: str, *, faulty: bool) -> None:
        """One round: publish and pull while things fail, then look."""
        self.runs += 1
        bucket = Bucket(self.server)
        tree, manifest = self.tree(number)
        got = self.work / "got"
        shutil.rmtree(got, ignore_errors=True)
        got.mkdir()
        with self._network(bucket, number, faulty=faulty) as url:
            skip = self.random.randrange(3) if point == "between parts" else 0
            victim = self.weed.process.pid if number % 3 == 2 and not faulty else 0
            self.kills["server" if victim else "publisher or gc"] += not faulty
            publish = Act(verb="publish", url=url, tree=tree, manifest=manifest)
            first = replace(publish, point=point, skip=skip, victim=victim)
            ended = self._end(publish if point == "during gc" else first)
            if point == "during gc":
                bucket.server.client().put_object(
                    Bucket=bucket.bucket, Key="team/models/artifacts/chaos/" + "0" * 64 + "/tree/x"
                )
                self._end(replace(first, verb="gc"))
            self._look(bucket, manifest, ended)
            self._until_done(publish)
            pull = Act(verb="pull", url=url, tree=got / "tree", manifest=manifest)
            self.kills["puller"] += not faulty
            self._end(replace(pull, point="between parts", skip=self.random.randrange(3)))
            self._until_done(pull)
        self._verify(bucket, manifest, got)
        for path in (tree, got):
            shutil.rmtree(path)

    def _until_done(self, act: Act) -> None:
        """Again, as a person or a pipeline would."""
        for _ in range(6):
            if self._end(act) == 0:
                return

    @contextlib.contextmanager
    def _network(self, bucket: Bucket, seed: int, *, faulty: bool) -> Iterator[str]:
        if not faulty:
            yield bucket.url
            return
        proxy = FaultyProxy(self.server.endpoint, 0.2, seed)
        try:
            yield Server(kind="seaweed", endpoint=proxy.endpoint).url(bucket.bucket, "team/models")
        finally:
            proxy.close()
            self.ends.update({f"fault {kind}": count for kind, count in proxy.faults.items()})

    def _end(self, act: Act) -> int:
        """Run a child to its end; a server that it killed is started again meanwhile."""
        child = multiprocessing.get_context("fork").Process(
            target=act.run, args=(self.log.fileno(),)
        )
        child.start()
        deadline = time.monotonic() + 300
        while child.exitcode is None and time.monotonic() < deadline:
            if self.weed.process.poll() is not None:
                self.weed.start()
            child.join(0.05)
        if child.exitcode is None:
            child.kill()
            child.join()
        if self.weed.process.poll() is not None:
            self.weed.start()
        code = child.exitcode or 0
        words = {0: "done", 3: "said an error", -signal.SIGKILL: "was killed"}
        self.ends[words.get(code, f"ended with {code}")] += 1
        return code

    def _look(self, bucket: Bucket, manifest: Manifest, ended: int) -> None:
        """Whatever is visible is whole; what said that it was done is visible."""
        registry = open_registry(bucket.url)
        visible = [line.ref for line in registry.list()]
        for ref in visible:
            try:
                registry.check(ref, rehash=True)
            except ArtifactsError as error:
                self.incomplete += 1
                sys.stderr.write(f"incomplete and visible: {error}\n")
        if ended == 0 and [ref.digest for ref in visible] != [manifest.digest]:
            self.incomplete += 1
            sys.stderr.write("published, and not visible\n")

    def _verify(self, bucket: Bucket, manifest: Manifest, got: Path) -> None:
        self._look(bucket, manifest, 0)
        tree = got / "tree"
        try:
            if tree.exists():
                check_tree(tree, manifest, rehash=True)
            else:
                self.ends["pull never succeeded"] += 1
        except ArtifactsError as error:
            self.wrong += 1
            sys.stderr.write(f"wrong bytes: {error}\n")
        registry = open_registry(bucket.url)
        registry.collect_garbage(older_than=-1, dry_run=False)
        left = sorted(set(bucket.stored_keys()) ^ _live(_ref(manifest), manifest, bucket))
        uploads = bucket.server.client().list_multipart_uploads(Bucket=bucket.bucket)
        if left or uploads.get("Uploads"):
            self.rubbish += 1
            sys.stderr.write(f"gc left: {left[:5]} {uploads.get('Uploads')}\n")


def _live(ref: ArtifactRef, manifest: Manifest, bucket: Bucket) -> set[str]:
    """The keys that one published artifact has, and no other."""
    base = "team/models/"
    home = f"{base}artifacts/{ref.name}/{ref.digest.hex}/"
    weights = next(file for file in manifest.files if file.size > 2**20)
    times = {
        key for key in bucket.stored_keys() if key.startswith(f"{base}index/names/{ref.name}/")
    }
    assert 1 <= len(times) <= 20
    return times | {
        *(f"{home}tree/{file.path}" for file in manifest.files),
        f"{home}tree/lmi-artifact.json",
        f"{home}manifest.json",
        f"{base}blobs/{weights.sha256[:2]}/{weights.sha256}.json",
        f"{base}tags/{ref.name}/t",
        f"{base}actions/11/{'1' * 64}.json",
        f"{base}index/digests/{ref.digest.hex}/{ref.name}",
        *(key for key in bucket.stored_keys() if key.startswith(f"{base}catalog/t/")),
        f"{base}probe/conditional-writes",
    }


def main() -> int:
    """Run; the last line is the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--each", type=int, default=20, help="kills at each of the five points")
    parser.add_argument("--faulty", type=int, default=20, help="runs behind the faulty proxy")
    parser.add_argument("--only", action="append", choices=POINTS, help="kill there only")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    os.environ |= {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
    os.environ |= {"AWS_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true"}
    download.PART = upload.PART = publishing.PART = SMALL_PART  # type: ignore[misc, attr-defined]
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="chaos") as folder:
        chaos = Chaos(Path(folder), asked.seed)
        try:
            number = 0
            for point in asked.only or POINTS:
                for _ in range(asked.each):
                    chaos.run(number, point, faulty=False)
                    number += 1
                sys.stderr.write(f"{point}: {asked.each} kills\n")
            for _ in range(asked.faulty):
                chaos.run(number, "", faulty=True)
                number += 1
        finally:
            chaos.weed.kill()
            chaos.log.close()
            said = (chaos.work / "children.log").read_text(errors="replace").splitlines()
    for line, count in Counter(line[:160] for line in said).most_common(12):
        sys.stderr.write(f"  {count:5} {line}\n")
    for what, count in sorted(chaos.ends.items()):
        print(f"  {count:5} {what}")
    for what, count in sorted(chaos.kills.items()):
        print(f"  {count:5} kill -9 of the {what}")
    print(f"  {chaos.rubbish} buckets with more or less than the live objects after gc")
    print(f"  {time.monotonic() - started:.0f} s")
    print(
        f"chaos: {chaos.runs} runs, {chaos.incomplete} incomplete visible, "
        f"{chaos.wrong} wrong bytes"
    )
    return 1 if chaos.incomplete or chaos.wrong or chaos.rubbish else 0


if __name__ == "__main__":
    sys.exit(main())
