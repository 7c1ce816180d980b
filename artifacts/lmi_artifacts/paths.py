"""Which relative paths may be in an artifact: safe on every file system, in tar and in S3."""

import unicodedata
from collections.abc import Iterable

MANIFEST_NAME = "lmi-artifact.json"
_SEGMENT_BYTES = 255
_PATH_BYTES = 900  # an S3 key has 1024 bytes, and the registry's prefix needs some of them


def path_problem(path: str) -> str | None:
    """Say what is wrong with one relative path, or None."""
    try:
        encoded = path.encode("utf-8")
    except UnicodeEncodeError:
        return f"{path!a}: the name is not UTF-8"
    segments = path.split("/")
    wrong: str | None = None
    if path.startswith("/"):
        wrong = "is absolute"
    elif any(segment in {"", ".", ".."} for segment in segments):
        wrong = "has an empty, '.' or '..' segment"
    elif "\\" in path:
        wrong = "has a backslash"
    elif any(unicodedata.category(letter) == "Cc" for letter in path):
        wrong = "has a control character"
    elif not unicodedata.is_normalized("NFC", path):
        wrong = "is not in Unicode's NFC form"
    elif len(encoded) > _PATH_BYTES:
        wrong = f"is longer than {_PATH_BYTES} bytes"
    elif any(len(segment.encode("utf-8")) > _SEGMENT_BYTES for segment in segments):
        wrong = f"has a segment longer than {_SEGMENT_BYTES} bytes"
    elif path.casefold() == MANIFEST_NAME:
        wrong = "is the manifest's own name"
    return None if wrong is None else f"{path!r}: {wrong}"


def set_problems(paths: Iterable[str]) -> tuple[str, ...]:
    """Say which of these paths cannot live beside one another: twice, by case, file as folder."""
    problems: list[str] = []
    spelled: dict[str, str] = {}
    files: set[str] = set()
    folders: set[str] = set()
    for path in paths:
        if path in files:
            problems.append(f"{path!r}: is there twice")
            continue
        files.add(path)
        parts = path.split("/")
        prefixes = ["/".join(parts[:depth]) for depth in range(1, len(parts) + 1)]
        folders.update(prefixes[:-1])
        for prefix in prefixes:
            other = spelled.setdefault(unicodedata.normalize("NFC", prefix.casefold()), prefix)
            if other != prefix:
                problems.append(f"{prefix!r}: differs from {other!r} by case alone")
    problems += [f"{path!r}: is a file and a folder" for path in sorted(files & folders)]
    return tuple(dict.fromkeys(problems))
