"""serving.properties: write what every reader agrees on, read as java.util.Properties does.

DJL reads the file with `java.util.Properties.load`; its Python tools split lines at the first `=`.
Contract: https://docs.oracle.com/en/java/javase/17/docs/api/java.base/java/util/Properties.html
"""

import re
from collections.abc import Iterator, Mapping

from lmi_artifacts.errors import PackageInvalid

PROPERTIES_NAME = "serving.properties"
_KEY = re.compile(r"[A-Za-z0-9._-]+")
_VALUE = re.compile(r"(?:[!-~](?:[ -~]*[!-~])?)?")
_BLANK = " \t\f"
_ESCAPES = {"t": "\t", "r": "\r", "n": "\n", "f": "\f"}
_LINE_END = re.compile(r"\r\n|\r|\n")


def format_properties(properties: Mapping[str, str]) -> bytes:
    r"""Write `key=value` lines in the mapping's order: ASCII, no backslash, `\n` line ends.

    Raises:
        PackageInvalid: a key or value that two readers could read differently; names them all.
    """
    problems = [
        f"{key!r}: a key may hold letters, digits, '.', '_' and '-'"
        for key in properties
        if _KEY.fullmatch(key) is None
    ]
    problems += [
        f"{key}={value!r}: a value may hold printable ASCII, no backslash, no blank at either end"
        for key, value in properties.items()
        if _VALUE.fullmatch(value) is None or "\\" in value
    ]
    if problems:
        raise PackageInvalid(PROPERTIES_NAME, problems)
    return "".join(f"{key}={value}\n" for key, value in properties.items()).encode("ascii")


def parse_properties(data: bytes) -> dict[str, str]:
    r"""Read properties exactly as `java.util.Properties.load(InputStream)` does (JDK 17).

    Raises:
        PackageInvalid: a malformed `\uXXXX`, the only thing that Java refuses.
    """
    return dict(_split(line) for line in _logical_lines(data.decode("iso-8859-1")))


def split_at_first_equals(data: bytes) -> dict[str, str]:
    """Read properties as DJL's Python tools do: strip, skip `#`, split at the first `=`."""
    found: dict[str, str] = {}
    for line in data.decode("utf-8", "replace").splitlines():
        key, equals, value = line.strip().partition("=")
        if equals and not key.startswith("#"):
            found[key.strip()] = value.strip()
    return found


def _logical_lines(text: str) -> Iterator[str]:
    """Join continued lines; drop comments and blank lines, and the blanks before each line."""
    line = ""
    continued = False
    naturals = _LINE_END.split(text)
    for index, natural in enumerate(naturals, 1):
        part = natural.lstrip(_BLANK)
        if line or (part and part[0] not in "#!"):
            continued = (len(part) - len(part.rstrip("\\"))) % 2 == 1
            line += part[:-1] if continued else part
            if not continued:
                yield line
                line = ""
        elif natural or index < len(naturals):
            continued = False
    if continued and not text.endswith("\r\n"):
        yield line


def _split(line: str) -> tuple[str, str]:
    end = 0
    while end < len(line) and line[end] not in "=:" + _BLANK:
        end += 2 if line[end] == "\\" else 1
    rest = line[end:].lstrip(_BLANK)
    if rest[:1] in {"=", ":"}:
        rest = rest[1:].lstrip(_BLANK)
    return _unescape(line[:end]), _unescape(rest)


def _unescape(text: str) -> str:
    def one(match: re.Match[str]) -> str:
        escaped = match[1]
        if len(escaped) > 1:
            return chr(int(escaped[1:], 16))
        if escaped == "u":
            raise PackageInvalid(PROPERTIES_NAME, [f"malformed \\uXXXX in {text!r}"])
        return _ESCAPES.get(escaped, escaped)

    units = re.sub(r"\\(u[0-9A-Fa-f]{4}|.|$)", one, text, flags=re.DOTALL)
    return units.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
