"""Files that appear whole or not at all: write aside, fsync, then rename or link."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

Progress = Callable[[int], None]


def untold(_count: int) -> None:
    """Nobody asks how many bytes more there are."""


def fsync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_new(path: Path, data: bytes) -> None:
    """Write and fsync a file that must not exist yet."""
    with path.open("xb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write all of `data` to an unbuffered file; the system may take it in pieces."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def aside(path: Path) -> Path:
    """Name a file beside `path`, different at each call, that no reader looks for."""
    return path.with_name(f".{path.name[:100]}.{os.getpid()}-{os.urandom(6).hex()}")


def replace_file(path: Path, data: bytes) -> None:
    """Put a file's new content in place at once, over an old one if there is one."""
    temporary = aside(path)
    try:
        write_new(temporary, data)
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    fsync_folder(path.parent)


def link_new(source: Path, path: Path) -> bool:
    """Give a finished file its public name, if nothing has that name: If-None-Match, on a disk.

    Returns:
        Whether the name is new; False leaves what is there as it is.
    """
    try:
        path.hardlink_to(source)
    except FileExistsError:
        return False
    fsync_folder(path.parent)
    return True


def remove_tree(path: Path) -> None:
    """Remove a folder and all in it, as far as that is possible; never follows a link."""
    for root, folders, files in os.walk(path, topdown=False):
        for name in files:
            with suppress(OSError):
                Path(root, name).unlink()
        for name in folders:
            inner = Path(root, name)
            with suppress(OSError):
                inner.unlink() if inner.is_symlink() else inner.rmdir()
    with suppress(OSError):
        path.rmdir()
