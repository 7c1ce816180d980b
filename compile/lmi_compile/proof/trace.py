"""Reads strace's text output into calls.

The format is that of `strace -f -y --decode-pids=pidns -o FILE` (strace(1), "OUTPUT FORMAT"): one
line per call, led by the process id; a call that another process interrupts is split in
`<unfinished ...>` and `<... NAME resumed>`; a file descriptor is followed by its path in angle
brackets; an exec by a thread takes over the id of the thread's leader.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

_LINE = re.compile(r"^(\d+)\s+(.*)$")
_RESUMED = re.compile(r"^<\.\.\. (\w+) resumed>(.*)$")
_INTERRUPTED = re.compile(r"^(.*)<(?:unfinished|pid changed to (\d+)) \.\.\.>$")
_SUPERSEDED = re.compile(r"^superseded by execve in pid (\d+)$")
_NAME = re.compile(r"^(\w+)\(")
_TOKEN = re.compile(
    r'"(?:[^"\\]|\\.)*"'  # a string
    r"|(?<=[0-9A-Z])<(?!<)[^<>]*>"  # a descriptor's path; angle brackets inside it are escaped
    r"|/\*.*?\*/"
    r"|[(){}\[\],]"
)
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"')
_DESCRIPTOR = re.compile(r"^(AT_FDCWD|-?\d+)(?:<(.*)>)?(?:\(deleted\))?(?:\s*/\*.*\*/)?$")
_ERROR = re.compile(r"^-1 (E[A-Z0-9]+)\b")
_ESCAPE = re.compile(r"\\([0-7]{1,3}|x[0-9a-fA-F]{2}|.)", re.DOTALL)
_ESCAPED = {"n": 10, "t": 9, "r": 13, "v": 11, "f": 12, "a": 7, "b": 8}
_UNINTERESTING_MAPPINGS = ("mmap(", "mprotect(")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One system call.

    Attributes:
        pid: the calling thread, in the observer's numbering.
        name: the call's name, such as `openat`.
        args: its arguments as strace wrote them.
        result: what follows ` = `, such as `3</etc/passwd>` or `-1 EROFS (...)`; `?` when the
            process ended inside the call.
        line: the line of the trace where the call ended, from 1.
    """

    pid: int
    name: str
    args: tuple[str, ...]
    result: str
    line: int

    @property
    def error(self) -> str | None:
        """The errno's name, or None for a call that succeeded or never returned."""
        found = _ERROR.match(self.result)
        return found.group(1) if found else None

    @property
    def succeeded(self) -> bool:
        """Whether the call returned without an error."""
        return not self.result.startswith(("-1 ", "?"))

    @property
    def text(self) -> str:
        """The call as one line, for people."""
        return f"{self.name}({', '.join(self.args)}) = {self.result}"

    def arg(self, index: int) -> str:
        """Argument `index` as written, or an empty string where the call has fewer."""
        return self.args[index] if index < len(self.args) else ""


@dataclass(slots=True, kw_only=True)
class Trace:
    """All of one trace.

    Attributes:
        calls: in the order in which they ended.
        exits: process id -> `exited with N` or `killed by SIGNAL`.
        root: the first process, or None for an empty trace.
        unread: lines that could not be understood; a trace that has any proves nothing.
    """

    calls: list[Call] = field(default_factory=list)
    exits: dict[int, str] = field(default_factory=dict)
    root: int | None = None
    unread: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether the observer saw the first process end and understood every line."""
        return self.root in self.exits and not self.unread


def parse(lines: Iterable[str]) -> Trace:
    """Reads a whole trace.

    Memory mappings that are not executable are dropped: they are many, and nothing asks for them.

    Args:
        lines: the lines of strace's output file.

    Returns:
        The calls, the exits, and every line that could not be read.
    """
    trace = Trace()
    pending: dict[int, str] = {}
    for number, line in enumerate(lines, start=1):
        found = _LINE.match(line.rstrip("\n"))
        if found is None:
            trace.unread.append(line.rstrip("\n"))
            continue
        pid, body = int(found.group(1)), found.group(2)
        if trace.root is None:
            trace.root = pid
        if body.startswith("--- "):
            continue
        if body.startswith("+++ "):
            _ended(trace, pending, pid, body.strip("+ "), number)
            continue
        interrupted = _INTERRUPTED.match(body)
        if interrupted is not None:
            owner = int(interrupted.group(2) or pid)
            pending[owner] = interrupted.group(1)
            continue
        resumed = _RESUMED.match(body)
        if resumed is not None:
            body = pending.pop(pid, "?") + resumed.group(2)
        if body.startswith(_UNINTERESTING_MAPPINGS) and "PROT_EXEC" not in body:
            continue
        call = _call(pid, body, number)
        if call is None:
            trace.unread.append(line.rstrip("\n"))
        else:
            trace.calls.append(call)
    return trace


def _ended(trace: Trace, pending: dict[int, str], pid: int, how: str, number: int) -> None:
    """Notes a process's end; a call it was in becomes one that never returned."""
    superseded = _SUPERSEDED.match(how)
    if superseded is not None:
        thread = int(superseded.group(1))
        if thread in pending:
            pending[pid] = pending.pop(thread)
        return
    trace.exits[pid] = how
    text = pending.pop(pid, None)
    if text is not None and _NAME.match(text):
        call = _call(pid, f"{text.rstrip()}) = ?", number)
        if call is not None and not (call.name in {"mmap", "mprotect"} and "PROT_EXEC" not in text):
            trace.calls.append(call)


def _call(pid: int, body: str, number: int) -> Call | None:
    name = _NAME.match(body)
    if name is None:
        return None
    depth, start, args = 0, name.end(), list[str]()
    for token in _TOKEN.finditer(body, name.end() - 1):
        text = token.group()
        if text in {"(", "{", "["}:
            depth += 1
        elif text in {")", "}", "]"}:
            depth -= 1
            if depth == 0:
                args.append(body[start : token.start()].strip())
                rest = body[token.end() :].strip()
                return _finished(pid, name.group(1), args, rest, number)
        elif text == "," and depth == 1:
            args.append(body[start : token.start()].strip())
            start = token.end()
    return None


def _finished(pid: int, name: str, args: list[str], rest: str, number: int) -> Call | None:
    if not rest.startswith("= "):
        return None
    kept = tuple(args) if args != [""] else ()
    return Call(pid=pid, name=name, args=kept, result=rest[2:].strip(), line=number)


def string(text: str) -> str | None:
    """The value of a quoted argument, or None for one that is not a string (`NULL`, an address)."""
    found = _STRING.match(text)
    return _unescaped(found.group(1)) if found else None


def strings(text: str) -> tuple[str, ...]:
    """Every string inside an argument, such as an argv's."""
    return tuple(_unescaped(found.group(1)) for found in _STRING.finditer(text))


def descriptor_path(text: str) -> str | None:
    """What a file descriptor (or `AT_FDCWD`, or a result) points at.

    Returns:
        A path, or a name such as `socket:[12]` or `/memfd:x`; None without decoration. The path of
        a deleted file is the one it had.
    """
    found = _DESCRIPTOR.match(text)
    if found is None or found.group(2) is None:
        return None
    return _unescaped(found.group(2))


def child_pid(call: Call) -> int | None:
    """The process or thread that a clone, fork or vfork made, in the observer's numbering."""
    translated = re.search(r"(\d+) in strace's PID NS", call.text)
    if translated is not None:
        return int(translated.group(1))
    plain = re.match(r"^(\d+)$", call.result)
    return int(plain.group(1)) if plain else None


def _unescaped(text: str) -> str:
    if "\\" not in text:
        return text
    out = bytearray()
    at = 0
    for found in _ESCAPE.finditer(text):
        out += text[at : found.start()].encode("utf-8", "surrogateescape")
        code = found.group(1)
        if code[0] in "01234567":
            out.append(int(code, 8) & 0xFF)
        elif code[0] == "x" and len(code) > 1:
            out.append(int(code[1:], 16))
        elif code in _ESCAPED:
            out.append(_ESCAPED[code])
        else:
            out += code.encode("utf-8", "surrogateescape")
        at = found.end()
    out += text[at:].encode("utf-8", "surrogateescape")
    return out.decode("utf-8", "surrogateescape")
