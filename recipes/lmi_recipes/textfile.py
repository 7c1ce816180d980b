"""Small text files, read with a size limit that is checked before anything is read."""

import os
import stat
from pathlib import Path
from typing import NoReturn

from lmi_recipes.errors import RecipeUnreadable
from lmi_recipes.problems import Problem

MAX_BYTES = 1 << 20


def read_text(path: Path) -> str:
    """Return a UTF-8 file's text, without a byte order mark.

    Raises:
        RecipeUnreadable: Missing, no regular file, above 1 MiB, not permitted, or not UTF-8.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            kind = "a directory" if stat.S_ISDIR(status.st_mode) else "no regular file"
            _refuse(path, f"is {kind}")
        if status.st_size > MAX_BYTES:
            _refuse(path, f"is {status.st_size} bytes long; a recipe has at most {MAX_BYTES}")
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        _refuse(path, "does not exist")
    except OSError as error:
        _refuse(path, f"cannot be read: {os.strerror(error.errno or 0)}")
    except ValueError:
        _refuse(path, "is no file name")
    if len(raw) > MAX_BYTES:
        _refuse(path, f"grew above {MAX_BYTES} bytes while it was read")
    return decode(raw, str(path))


def decode(raw: bytes, file: str) -> str:
    """Return the text of UTF-8 bytes, without a byte order mark.

    Raises:
        RecipeUnreadable: Not UTF-8; the problem stands at the first bad byte.
    """
    try:
        return raw.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        good = raw[: error.start].decode("utf-8")
        line, column = good.count("\n") + 1, len(good) - good.rfind("\n")
        message = f"is not UTF-8: byte 0x{raw[error.start]:02x}"
        problem = Problem(file=file, line=line, column=column, message=message)
        raise RecipeUnreadable([problem]) from error


def _refuse(path: Path, message: str) -> NoReturn:
    raise RecipeUnreadable([Problem(file=str(path), message=message)])
