"""What only a folder registry can show: kills at every step, full disks, staging, resumed pulls."""

import fcntl
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lmi_artifacts.directory import FolderRegistry
from lmi_artifacts.errors import (
    ArtifactNotFound,
    PublishFailed,
    PullFailed,
    RegistryUnavailable,
)
from lmi_artifacts.files import link_new, remove_tree
from lmi_artifacts.manifest import Manifest
from lmi_artifacts.registry import Pulled, open_registry
from lmi_artifacts.statement import VERDICT, Statement
from lmi_artifacts.tree import check_tree

KEY = "a" * 64
FORK = multiprocessing.get_context("fork")


def _say(manifest: Manifest) -> Statement:
    return Statement(
        name=manifest.name, subject=manifest.digest, predicate_type=VERDICT, predicate={}
    )


# ---------------------------------------------------------------- kill -9


def _die_at(step: int, work: Callable[[], object]) -> None:
    """Do the work, but be killed just before the step-th thing asked of the file system."""
    left = step
    watched = {"open", "os.mkdir", "os.rename", "os.link", "os.remove", "os.rmdir", "os.chmod"}

    def watch(event: str, _: tuple[object, ...]) -> None:
        nonlocal left
        if event in watched:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    work()


def _killed(step: int, work: Callable[[], object]) -> bool:
    """Say whether a child process doing the work was killed; False: it finished before."""
    child = FORK.Process(target=_die_at, args=(step, work))
    child.start()
    child.join(60)
    assert child.exitcode in {0, -signal.SIGKILL}
    return child.exitcode != 0


@pytest.mark.slow
def test_a_publisher_killed_anywhere_leaves_nothing_half_visible(
    tree: Path, manifest: Manifest, tmp_path: Path
) -> None:
    seen: list[bool] = []
    step = 0
    killed = True
    while killed:
        step += 1
        registry = FolderRegistry(tmp_path / f"registry{step}")

        def work(registry: FolderRegistry = registry) -> object:
            return registry.publish(
                tree, manifest, statements=[_say(manifest)], layouts=["tar.gz"],
                action_key=KEY, tags=["t"],
            )  # fmt: skip

        killed = _killed(step, work)
        lines = registry.list()
        for line in lines:
            registry.check(line.ref, rehash=True)
            assert line.statements == (VERDICT,)
            assert line.layouts == ("prefix", "tar.gz")
        action = registry.find_action(KEY)
        assert action is None or action.ref == lines[0].ref
        if registry.tag("tiny", "t") is not None:
            assert registry.resolve("tiny:t") == lines[0].ref
        seen.append(bool(lines))

        again = registry.publish(
            tree, manifest, statements=[_say(manifest)], action_key=KEY, tags=["t"]
        )
        assert again.created == (not lines)
        registry.check(again.ref, rehash=True)
        registry.collect_garbage(older_than=0, dry_run=False)
        assert list((tmp_path / f"registry{step}" / "staging").iterdir()) == []
        remove_tree(tmp_path / f"registry{step}")
    print(f"killed at {step - 1} points")  # noqa: T201 - shown with -s
    assert step > 40, "the publish was really killed at many points"
    assert seen == sorted(seen), "visible once, visible from then on"
    assert any(seen)
    assert not all(seen)


def test_a_pull_killed_anywhere_is_whole_or_absent_and_resumes(
    tree: Path, manifest: Manifest, tmp_path: Path
) -> None:
    registry = FolderRegistry(tmp_path / "registry")
    ref = registry.publish(tree, manifest).ref
    reused: list[int] = []
    step = 0
    killed = True
    while killed:
        step += 1
        dest = tmp_path / f"out{step}" / "dest"

        def work(dest: Path = dest) -> object:
            return registry.pull(ref, dest)

        killed = _killed(step, work)
        if dest.exists():
            check_tree(dest, manifest, rehash=True)
        pulled = registry.pull(ref, dest)
        check_tree(dest, manifest, rehash=True)
        assert list(dest.parent.iterdir()) == [dest]
        if not pulled.up_to_date:
            reused.append(pulled.reused)
    assert step > 20
    assert reused == sorted(reused), "the later the kill, the more is kept"
    assert reused[-1] == len(manifest.files)


def test_a_resumed_pull_re_hashes_what_it_keeps(
    tree: Path, manifest: Manifest, tmp_path: Path
) -> None:
    registry = FolderRegistry(tmp_path / "registry")
    ref = registry.publish(tree, manifest).ref
    partial = tmp_path / f".dest.{ref.digest.hex[:16]}.partial" / "tree"
    partial.mkdir(parents=True)
    (partial / "model.py").write_bytes((tree / "model.py").read_bytes())
    (partial / "weights.safetensors").write_bytes(bytes(10240))
    (partial / "stranger").write_bytes(b"")
    pulled = registry.pull(ref, tmp_path / "dest")
    assert (pulled.reused, pulled.fetched) == (1, 4)
    check_tree(tmp_path / "dest", manifest, rehash=True)
    assert not partial.parent.exists()


def _pull(root: Path, dest: Path, out: Path) -> None:
    registry = FolderRegistry(root)
    pulled: Pulled = registry.pull(registry.resolve("tiny"), dest)
    out.write_text("there" if pulled.up_to_date else "pulled")


def test_six_pullers_to_one_place_pull_once(tree: Path, manifest: Manifest, tmp_path: Path) -> None:
    registry = FolderRegistry(tmp_path / "registry")
    registry.publish(tree, manifest)
    for turn in range(10):
        dest = tmp_path / f"out{turn}" / "dest"
        outs = [tmp_path / f"result{turn}-{index}" for index in range(6)]
        pullers = [
            FORK.Process(target=_pull, args=(tmp_path / "registry", dest, out)) for out in outs
        ]
        for puller in pullers:
            puller.start()
        for puller in pullers:
            puller.join(60)
        assert sorted(out.read_text() for out in outs) == ["pulled"] + ["there"] * 5
        check_tree(dest, manifest, rehash=True)
        assert list(dest.parent.iterdir()) == [dest]


# ---------------------------------------------------------------- disks


def _publish_with_small_files_only(root: Path, tree: Path, manifest: Manifest, out: Path) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
    try:
        FolderRegistry(root).publish(tree, manifest, action_key=KEY, tags=["t"])
    except PublishFailed as error:
        out.write_text(error.cause)


def test_a_write_that_fails_half_way_is_a_failed_publish(
    tree: Path, manifest: Manifest, tmp_path: Path
) -> None:
    """A file size limit stands in for a full disk: the same write fails at the same place."""
    out = tmp_path / "cause"
    child = FORK.Process(
        target=_publish_with_small_files_only, args=(tmp_path / "registry", tree, manifest, out)
    )
    child.start()
    child.join(60)
    assert child.exitcode == 0
    assert "File too large" in out.read_text()
    registry = FolderRegistry(tmp_path / "registry")
    assert registry.list() == ()
    assert registry.find_action(KEY) is None
    assert list((tmp_path / "registry" / "staging").iterdir()) == []


def test_a_place_that_cannot_be_written_says_so(
    tree: Path, manifest: Manifest, tmp_path: Path
) -> None:
    with pytest.raises(PublishFailed, match=r"No such file|Permission|Read-only"):
        FolderRegistry(Path("/proc/lmi-registry")).publish(tree, manifest)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(PublishFailed, match="Not a directory"):
        FolderRegistry(tmp_path / "file").publish(tree, manifest)
    registry = FolderRegistry(tmp_path / "registry")
    ref = registry.publish(tree, manifest).ref
    with pytest.raises(PullFailed, match="Not a directory"):
        registry.pull(ref, tmp_path / "file" / "dest")


def test_a_registry_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    (tmp_path / "artifacts").symlink_to("artifacts")
    with pytest.raises(RegistryUnavailable, match="symbolic links"):
        FolderRegistry(tmp_path).list()


# ---------------------------------------------------------------- staging


def test_garbage_is_what_nobody_alive_holds(tmp_path: Path) -> None:
    staging = tmp_path / "staging"
    for name in ("dead", "alive", "young"):
        (staging / name / "home").mkdir(parents=True)
    for name in ("dead", "alive"):
        os.utime(staging / name, (1, 1))
    holder = os.open(staging / "alive", os.O_RDONLY)
    fcntl.flock(holder, fcntl.LOCK_EX)
    try:
        registry = FolderRegistry(tmp_path)
        dead = str(staging / "dead")
        assert registry.collect_garbage() == (dead,)
        assert (staging / "dead").exists(), "a dry run removes nothing"
        assert registry.collect_garbage(dry_run=False) == (dead,)
        assert sorted(path.name for path in staging.iterdir()) == ["alive", "young"]
    finally:
        os.close(holder)


def test_link_new_never_overwrites(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_text(name)
    assert link_new(tmp_path / "one", tmp_path / "public")
    assert not link_new(tmp_path / "two", tmp_path / "public")
    assert (tmp_path / "public").read_text() == "one"


def test_remove_tree_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_bytes(b"")
    (tmp_path / "old" / "deep").mkdir(parents=True)
    (tmp_path / "old" / "deep" / "link").symlink_to(tmp_path / "precious")
    remove_tree(tmp_path / "old")
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]
    assert (tmp_path / "precious" / "file").exists()


# ---------------------------------------------------------------- opening


def test_open_registry_by_path_and_by_url(tree: Path, manifest: Manifest, tmp_path: Path) -> None:
    root = tmp_path / "a b"
    ref = open_registry(str(root)).publish(tree, manifest).ref
    url = "file://" + str(root).replace(" ", "%20")
    assert open_registry(url).resolve("tiny") == ref
    assert open_registry(url.replace("file://", "file://localhost")).url == str(root)


def test_opening_touches_nothing(tmp_path: Path) -> None:
    registry = open_registry(str(tmp_path / "none"))
    assert registry.list() == ()
    assert registry.collect_garbage() == ()
    with pytest.raises(ArtifactNotFound, match="none"):
        registry.resolve("tiny")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "part"),
    [("s3://B/prefix", "bucket's name"), ("http://x/y", "file://"), ("", "empty"),
     ("file://host/path", "three slashes"), ("file://path", "three slashes")],
)  # fmt: skip
def test_other_urls_are_explained(url: str, part: str) -> None:
    with pytest.raises(RegistryUnavailable, match=part):
        open_registry(url)


def test_reading_stays_light() -> None:
    """A cache hit checks an artifact; it must not pay for packing, S3 or big standard modules."""
    program = (
        "import sys, lmi_artifacts.directory, lmi_artifacts.registry, lmi_artifacts.digest\n"
        "heavy = {'isal', 'tarfile', 'shutil', 'tempfile', 'difflib', 'zlib', 'zipfile',\n"
        "         'pydantic', 'yaml', 'boto3', 'numpy', 'torch', 'asyncio', 'multiprocessing',\n"
        "         'importlib.metadata', 'tomllib', 'logging', 'random'}\n"
        "print(sorted(heavy & set(sys.modules) - before))\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; before = set(sys.modules)\n{program}"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout == "[]\n"
