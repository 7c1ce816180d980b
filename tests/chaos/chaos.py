"""`make chaos`: a faulty network, and kill -9 of publisher, puller, collector and server.

Each run ends with the same questions, asked of a healthy connection: is anything visible that is
not whole, has anybody got bytes that are not the artifact's, and does gc leave exactly the live
objects?
"""

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "servers"))
from faulty_proxy import FaultyProxy
from s3servers import KEY, SECRET, Bucket, Seaweed, Server

from lmi_artifacts.errors import ArtifactsError
from lmi_artifacts.manifest import Manifest
from lmi_artifacts.reference import ArtifactRef
from lmi_artifacts.registry import open_registry
from lmi_artifacts.tree import check_tree, scan_tree

POINTS = (
    "before the first part", "between parts", "between complete and manifest",
    "between manifest and tag", "during gc",
)  # fmt: skip
_CHILD = """
import os, signal, sys
from pathlib import Path
from lmi_artifacts.errors import ArtifactsError
from lmi_artifacts.manifest import Manifest
from lmi_artifacts.reference import ArtifactRef
from lmi_artifacts.registry import open_registry
verb, url, tree, manifest, point, skip = sys.argv[1:]
registry = open_registry(url)
left = int(skip)
def stop(where):
    global left
    if where == point:
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
sealed = Manifest.parse(Path(manifest).read_bytes())
try:
    if verb == "publish":
        registry.checkpoint = stop
        registry.publish(Path(tree), sealed, tags=["t"], action_key="1" * 64)
    elif verb == "pull":
        registry.progress = lambda count: stop("between parts")
        registry.pull(ArtifactRef(name=sealed.name, digest=sealed.digest), Path(tree))
    else:
        delete = registry.store.delete
        def counted(keys):
            for key in keys:
                stop("during gc")
                delete([key])
        registry.store.delete = counted
        registry.collect_garbage(older_than=0, dry_run=False)
except ArtifactsError as error:
    print(type(error).__name__, str(error)[:200].replace("\\n", " "), file=sys.stderr)
    sys.exit(3)
"""


class Chaos:
    """One server, one bucket after another, and what went wrong."""

    def __init__(self, work: Path, seed: int) -> None:
        self.work = work
        self.random = random.Random(seed)
        self.weed = Seaweed(work)
        self.server = Server(kind="seaweed", endpoint=self.weed.endpoint)
        self.log = (work / "children.log").open("wb")
        self.ends: Counter[str] = Counter()
        self.runs = self.incomplete = self.wrong = self.rubbish = 0

    def tree(self, number: int) -> tuple[Path, Path, Manifest]:
        """A new tree: a file of three parts, small ones, and its manifest."""
        tree = self.work / f"tree{number}"
        tree.mkdir()
        (tree / "weights.safetensors").write_bytes(self.random.randbytes(20_000_000))
        for name in ("a", "b", "c"):
            (tree / name).write_bytes(self.random.randbytes(3000))
        manifest = Manifest(
            name="chaos", recipe={}, toolchain={}, build_key=str(number), steps={}, serving={},
            licence=None, simulated=False, files=scan_tree(tree),
        )  # fmt: skip
        sealed = self.work / f"tree{number}.json"
        sealed.write_bytes(manifest.to_bytes())
        return tree, sealed, manifest

    def child(self, *argv: str) -> subprocess.Popen[bytes]:
        """A publisher, puller or collector in a process of its own."""
        return subprocess.Popen([sys.executable, "-c", _CHILD, *argv], stderr=self.log)

    def run(self, number: int, point: str, *, faulty: bool) -> None:
        """One round: publish and pull while things fail, then look."""
        self.runs += 1
        bucket = Bucket(self.server)
        tree, sealed, manifest = self.tree(number)
        got = self.work / "got"
        shutil.rmtree(got, ignore_errors=True)
        got.mkdir()
        with self._network(bucket, number, faulty=faulty) as url:
            skip = str(self.random.randrange(3) if point == "between parts" else 0)
            publish = ["publish", url, str(tree), str(sealed)]
            ended = self._end(self.child(*publish, "" if faulty else point, skip))
            if point == "during gc":
                bucket.server.client().put_object(
                    Bucket=bucket.bucket, Key="team/models/artifacts/chaos/" + "0" * 64 + "/tree/x"
                )
                self._end(self.child("gc", url, "-", str(sealed), point, skip))
            self._look(bucket, manifest, ended)
            if self.random.random() < 0.3 and not faulty:
                self.weed.kill()
                self.weed.start()
            for _ in range(6):  # again, as a person or a pipeline would
                if self._end(self.child(*publish, "", "0")) == 0:
                    break
            pull = ["pull", url, str(got / "tree"), str(sealed)]
            self._end(self.child(*pull, "between parts", str(self.random.randrange(3))))
            for _ in range(6):
                if self._end(self.child(*pull, "", "0")) == 0:
                    break
        self._verify(bucket, manifest, got)
        for path in (tree, got):
            shutil.rmtree(path)

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

    def _end(self, child: subprocess.Popen[bytes]) -> int:
        try:
            code = child.wait(300)
        except subprocess.TimeoutExpired:
            child.kill()
            code = child.wait()
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
        ref = ArtifactRef(name=manifest.name, digest=manifest.digest)
        left = sorted(set(bucket.stored_keys()) - _live(ref, manifest, bucket))
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
    assert len(times) <= 20
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
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    os.environ |= {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
    os.environ |= {"AWS_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true"}
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="chaos") as folder:
        chaos = Chaos(Path(folder), asked.seed)
        try:
            number = 0
            for point in POINTS:
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
    print(f"  {chaos.rubbish} buckets with more or less than the live objects after gc")
    print(f"  {time.monotonic() - started:.0f} s")
    print(
        f"chaos: {chaos.runs} runs, {chaos.incomplete} incomplete visible, "
        f"{chaos.wrong} wrong bytes"
    )
    return 1 if chaos.incomplete or chaos.wrong or chaos.rubbish else 0


if __name__ == "__main__":
    sys.exit(main())
