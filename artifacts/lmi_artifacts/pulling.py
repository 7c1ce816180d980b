"""Pull into a destination: verified, atomic, resumable, whatever the files come from."""

import fcntl
import os
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from lmi_artifacts.content import check_file
from lmi_artifacts.errors import ArtifactRefused, PullFailed
from lmi_artifacts.files import aside, fsync_folder, remove_tree
from lmi_artifacts.manifest import Manifest, ManifestFile
from lmi_artifacts.registry import Pulled
from lmi_artifacts.tree import check_tree, read_manifest, write_manifest

Fetch = Callable[[ManifestFile, Path], None]
"""Write one file, verified and fsynced, at a path that does not exist yet."""
Announce = Callable[[Sequence[ManifestFile], Path], None]
"""Told which files will be fetched, in order, and a folder that a killed pull leaves behind."""


def _silence(files: Sequence[ManifestFile], partial: Path) -> None:
    del files, partial


_RANK = re.compile(r"(?:^|[._/-])rank[_-]?([0-9]+)(?=[._/-]|$)")


def for_rank(manifest: Manifest, rank: int | None) -> Manifest:
    """Leave out what belongs to other ranks, by the names that engines and shards carry.

    `rank3.engine`, `model-rank-3.safetensors` and `rank3/...` belong to rank 3; what names no rank
    belongs to all. None keeps everything.

    Raises:
        ArtifactRefused: no file names that rank.
    """
    if rank is None:
        return manifest
    ranks = {file.path: {int(text) for text in _RANK.findall(file.path)} for file in manifest.files}
    known = sorted(set().union(*ranks.values()))
    if rank not in known:
        there = f"it has the ranks {', '.join(map(str, known))}" if known else "it has no ranks"
        raise ArtifactRefused(f"{manifest.name}@{manifest.digest}", [f"no rank {rank}: {there}"])
    kept = tuple(one for one in manifest.files if not ranks[one.path] or rank in ranks[one.path])
    return replace(manifest, files=kept)


def runs_remote_code(manifest: Manifest) -> bool:
    """Whether an artifact's recipe lets the model's repository run code."""
    model = manifest.recipe.get("model")
    return isinstance(model, Mapping) and model.get("trust_remote_code") is True


def refuse_remote_code(manifest: Manifest, *, trusted: bool) -> None:
    """Raise ArtifactRefused where the model's own code would run and nobody said yes to it."""
    if runs_remote_code(manifest) and not trusted:
        why = "its model runs code of its own repository; say --trust-remote-code"
        raise ArtifactRefused(f"{manifest.name}@{manifest.digest}", [why])


def pull_tree(
    manifest: Manifest, dest: Path, fetch: Fetch, announce: Announce = _silence
) -> Pulled:
    """Bring an artifact's tree to `dest`.

    The tree grows in a hidden folder beside `dest`, locked against a second puller; a killed pull
    leaves it there, and the next one re-hashes and keeps what is whole in it.

    Raises:
        PullFailed: `dest` holds something else, or cannot be written.
        ArtifactRefused: what `fetch` found is not what the manifest says.
    """
    dest = dest.resolve()
    partial = dest.with_name(f".{dest.name[:100]}.{manifest.digest.hex[:16]}.partial")
    try:
        while True:
            if is_up_to_date(dest, manifest):
                with suppress(OSError):
                    partial.rmdir()  # a puller that came second, or died at the end, leaves it
                return Pulled(path=dest, up_to_date=True, fetched=0, reused=len(manifest.files))
            pulled = _pull(manifest, dest, partial, fetch, announce)
            if pulled is not None:
                return pulled
    except OSError as error:
        raise PullFailed(str(dest), str(error)) from error


def _pull(
    manifest: Manifest, dest: Path, partial: Path, fetch: Fetch, announce: Announce
) -> Pulled | None:
    """Fill the hidden folder and rename it; None where another puller was there meanwhile."""
    partial.mkdir(parents=True, exist_ok=True)
    try:
        lock = os.open(partial, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _is_still(partial, lock) or is_up_to_date(dest, manifest):
            return None
        tree = partial / "tree"
        whole = _whole(manifest, tree)
        missing = [file for file in manifest.files if file.path not in whole]
        _refuse_what_cannot_fit(missing, partial, dest)
        announce(missing, partial)
        _fill(missing, tree, partial / "incoming", fetch)
        write_manifest(tree, manifest)
        for folder, _, _ in os.walk(tree):
            fsync_folder(Path(folder))
        tree.rename(dest)
        remove_tree(partial)
        fsync_folder(dest.parent)
    finally:
        os.close(lock)
    return Pulled(path=dest, up_to_date=False, fetched=len(missing), reused=len(whole))


def _refuse_what_cannot_fit(missing: Sequence[ManifestFile], partial: Path, dest: Path) -> None:
    """Say before the first byte that the disk is too small, not after the last that fits."""
    begun = sum(path.stat().st_size for path in partial.glob("*.beginning"))
    needed = sum(file.size for file in missing) - begun
    disk = os.statvfs(partial)
    free = disk.f_bavail * disk.f_frsize
    if needed > free:
        raise PullFailed(str(dest), f"{needed} bytes are to come, and only {free} are free there")


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _whole(manifest: Manifest, tree: Path) -> set[str]:
    """Remove from `tree` what is not exactly the manifest's; give what is whole already."""
    tree.mkdir(exist_ok=True)
    wanted = {file.path: file for file in manifest.files}
    whole: set[str] = set()
    for path in tree.rglob("*"):
        if path.is_file() or path.is_symlink():
            file = wanted.get(path.relative_to(tree).as_posix())
            if file is not None and _is_whole(path, file):
                whole.add(file.path)
            else:
                path.unlink()
    return whole


def _fill(missing: Sequence[ManifestFile], tree: Path, incoming: Path, fetch: Fetch) -> None:
    for file in missing:
        incoming.unlink(missing_ok=True)
        fetch(file, incoming)
        target = tree / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        incoming.rename(target)


def _is_whole(path: Path, file: ManifestFile) -> bool:
    if path.is_symlink() or path.stat().st_size != file.size:
        return False
    if check_file(path, file) is not None:
        return False
    path.chmod(0o755 if file.executable else 0o644)
    return True


def is_up_to_date(dest: Path, manifest: Manifest) -> bool:
    """Compare manifests and sizes; refuse a destination that holds anything else.

    Raises:
        PullFailed: it holds something else.
    """
    if not dest.exists() and not dest.is_symlink():
        return False
    if not dest.is_dir():
        raise PullFailed(str(dest), "it is not a folder; name another place, or remove it")
    if next(dest.iterdir(), None) is None:
        return False
    try:
        there = read_manifest(dest)
    except ArtifactRefused as error:
        cause = f"it holds other files ({error.problems[0]}); name an empty or new folder"
        raise PullFailed(str(dest), cause) from error
    if there.to_bytes() != manifest.to_bytes():
        cause = f"it holds {there.name}@{there.digest}; remove it, or name another folder"
        raise PullFailed(str(dest), cause)
    try:
        check_tree(dest, manifest, rehash=False)
    except ArtifactRefused as error:
        problems = "; ".join(error.problems)
        cause = f"it holds a damaged copy of this artifact ({problems}); remove it and pull again"
        raise PullFailed(str(dest), cause) from error
    return True


def pull_tar_gz(
    manifest: Manifest, dest: Path, fetch: Callable[[Path], None], verify: Callable[[Path], None]
) -> Pulled:
    """Bring an artifact to `dest` as one `model.tar.gz`.

    Args:
        manifest: the artifact's.
        dest: the file.
        fetch: writes the whole archive at a path that does not exist yet.
        verify: raises ArtifactRefused when an archive is not this artifact's.

    Raises:
        PullFailed: `dest` holds something else, or cannot be written.
        ArtifactRefused: what was fetched is not this artifact.
    """
    dest = dest.resolve()
    count = len(manifest.files)
    if dest.exists():
        try:
            verify(dest)
        except (ArtifactRefused, OSError) as error:
            cause = f"something else is there ({error}); remove it, or name another file"
            raise PullFailed(str(dest), cause) from error
        return Pulled(path=dest, up_to_date=True, fetched=0, reused=count)
    try:
        dest.parent.mkdir(parents=True, exist_ok=True)
        temporary = aside(dest)
        try:
            fetch(temporary)
            verify(temporary)
            temporary.replace(dest)
        finally:
            temporary.unlink(missing_ok=True)
        fsync_folder(dest.parent)
    except OSError as error:
        raise PullFailed(str(dest), str(error)) from error
    return Pulled(path=dest, up_to_date=False, fetched=count, reused=0)
