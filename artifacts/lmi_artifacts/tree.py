"""Trees on disk: list one, hold one against its manifest, copy from one while checking."""

import os
import stat
from pathlib import Path

from lmi_artifacts.content import Checked, check_file, describe_file
from lmi_artifacts.errors import ArtifactRefused, PackageInvalid
from lmi_artifacts.files import Progress, replace_file, write_all
from lmi_artifacts.manifest import MANIFEST_BYTES, Manifest, ManifestFile
from lmi_artifacts.paths import MANIFEST_NAME, path_problem, set_problems

_CHUNK = 2**20


def _walk(tree: Path) -> tuple[dict[str, os.stat_result], list[str]]:
    """Find every regular file by its relative path, and everything that may not be there."""
    found: dict[str, os.stat_result] = {}
    problems: list[str] = []
    pending = [""]
    while pending:
        prefix = pending.pop()
        with os.scandir(tree / prefix) as listing:
            entries = list(listing)
        if not entries and prefix:
            problems.append(f"{prefix.rstrip('/')!r}: an empty folder, which no S3 prefix can hold")
        for entry in entries:
            path = prefix + entry.name
            status = entry.stat(follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                pending.append(path + "/")
            elif not stat.S_ISREG(status.st_mode):
                kind = "a link" if entry.is_symlink() else "neither a file nor a folder"
                problems.append(f"{path!a}: is {kind}")
            else:
                found[path] = status
    return found, problems


def _executable(status: os.stat_result) -> bool:
    return bool(status.st_mode & stat.S_IXUSR)


def scan_tree(tree: Path) -> tuple[ManifestFile, ...]:
    """List and hash every file of a tree, sorted by path, without the manifest itself.

    Args:
        tree: the folder; its root is the artifact's root.

    Raises:
        PackageInvalid: links, devices, unsafe or colliding names, empty folders; names them all.
            Or the package blake3 is missing.
        OSError: the tree cannot be read.
    """
    found, problems = _walk(tree)
    found.pop(MANIFEST_NAME, None)
    problems += [wrong for path in sorted(found) if (wrong := path_problem(path)) is not None]
    problems += set_problems(sorted(found))
    if not found:
        problems.append("holds no files")
    if problems:
        raise PackageInvalid(str(tree), problems)
    return tuple(
        describe_file(tree / path, path, executable=_executable(status))
        for path, status in sorted(found.items())
    )


def check_tree(
    tree: Path, manifest: Manifest, *, rehash: bool, progress: Progress | None = None
) -> None:
    """Hold a tree against its manifest.

    Presence, size, mode and names come from stat alone; `rehash` reads every byte as well, and
    holds it against every digest that the manifest has. A manifest file in the tree must be this
    manifest. `progress` is told how many bytes more have been read.

    Raises:
        ArtifactRefused: names every missing, extra and wrong file.
        OSError: the tree cannot be read.
    """
    if not tree.is_dir():
        raise ArtifactRefused(str(tree), ["there is no such folder"])
    found, problems = _walk(tree)
    if found.pop(MANIFEST_NAME, None) is not None:
        inside = tree / MANIFEST_NAME
        if inside.read_bytes() != manifest.to_bytes():
            problems.append(f"{MANIFEST_NAME!r}: is another manifest")
    for file in manifest.files:
        status = found.pop(file.path, None)
        wrong = "is missing" if status is None else _difference(file, status)
        if wrong is None and rehash:
            wrong = check_file(tree / file.path, file, fully=True, progress=progress)
        if wrong is not None:
            problems.append(f"{file.path!r}: {wrong}")
    problems += [f"{path!a}: is not in the manifest" for path in sorted(found)]
    if problems:
        raise ArtifactRefused(str(tree), problems)


def _difference(file: ManifestFile, status: os.stat_result) -> str | None:
    if status.st_size != file.size:
        return f"has {status.st_size} bytes, not {file.size}"
    if _executable(status) != file.executable:
        return "should be executable" if file.executable else "should not be executable"
    return None


def write_manifest(tree: Path, manifest: Manifest) -> None:
    """Seal a tree: put its manifest at its root, durably.

    Raises:
        PackageInvalid: no reader would accept the manifest.
        OSError: it cannot be written.
    """
    replace_file(tree / MANIFEST_NAME, manifest.to_bytes())


def read_manifest(tree: Path) -> Manifest:
    """Read the manifest at a tree's root.

    Raises:
        ArtifactRefused: there is none, or it is not a manifest.
    """
    path = tree / MANIFEST_NAME
    try:
        with path.open("rb") as stream:
            data = stream.read(MANIFEST_BYTES + 1)
    except OSError as error:
        why = f"{MANIFEST_NAME} cannot be read: {error.strerror}; this is not an artifact"
        raise ArtifactRefused(str(tree), [why]) from error
    return Manifest.parse(data)


def copy_file(
    source: Path, dest: Path, file: ManifestFile, progress: Progress | None = None
) -> None:
    """Copy one file to a new name, checking every byte on the way, and fsync it.

    `progress` is told how many bytes more have been copied.

    Raises:
        ArtifactRefused: the source is missing, a link, or not what the manifest says.
        OSError: the destination cannot be written.
    """
    try:
        reading = os.open(source, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError as error:
        raise ArtifactRefused(str(source), [f"cannot be read: {error.strerror}"]) from error
    checked = Checked(file)
    left = file.size
    with os.fdopen(reading, "rb", buffering=0) as stream, dest.open("xb", buffering=0) as out:
        while chunk := stream.read(_CHUNK):
            checked.update(chunk)
            left -= len(chunk)
            if left < 0:
                break
            write_all(out.fileno(), chunk)
            if progress is not None:
                progress(len(chunk))
        os.fchmod(out.fileno(), 0o755 if file.executable else 0o644)
        os.fsync(out.fileno())
    wrong = checked.problem()
    if wrong is not None:
        raise ArtifactRefused(str(source), [wrong])
