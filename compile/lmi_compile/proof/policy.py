"""Which of the watched calls are events against a served tree; pure.

Everything after the program's own exec counts, attempts that failed included: a handler that would
compile if only it could must not pass because this sandbox stopped it.
"""

import posixpath
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from lmi_compile.proof import tables
from lmi_compile.proof.processes import Processes
from lmi_compile.proof.record import Event, EventKind
from lmi_compile.proof.trace import Call, descriptor_path, string, strings

_NOTED: frozenset[EventKind] = frozenset({"executable-memory", "local-socket", "rank", "tree-copy"})
_CALL_SHOWN = 300
_FAMILY = re.compile(r"sa_family=(\w+)")
_ADDRESS = re.compile(r'(?:sin_addr=inet_addr|inet_pton)\((?:AF_INET6, )?"([^"]*)"')
_PORT = re.compile(r"sin6?_port=htons\((\d+)\)")
_SOCKET_PATH = re.compile(r'sun_path=(@?"[^"]*")')
_LOOPBACK = frozenset({"127.0.0.1", "::1"})
_RANK = "lmi_aoti_runtime.rank"
_SILENT_FAMILIES = frozenset({"AF_NETLINK", "AF_UNSPEC"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What the policy must know of one run.

    Attributes:
        scratch: the folder that may be written to, as the child sees it.
        program: the argv element that marks the program's own exec; what came before is set-up.
        ranks: how many further processes of the same interpreter the tree says that it runs in;
            they may be executed, and speak to one another on loopback, where nobody else is.
    """

    scratch: str
    program: str
    ranks: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ScratchFile:
    """A file that the run left in the scratch folder and that could be executed.

    Attributes:
        why: how it can, such as `an ELF file`.
        in_tree: whether the tree has a file with the same content.
    """

    why: str
    in_tree: bool


@dataclass(slots=True, kw_only=True)
class Findings:
    """The events of one run, equal ones merged.

    Attributes:
        started: whether the program's own exec was seen.
    """

    started: bool = False
    _found: dict[tuple[EventKind, str], Event] = field(default_factory=dict)

    def add(self, found: Event) -> None:
        """Adds an event, or counts one more of the same."""
        key = (found.kind, found.path)
        known = self._found.get(key)
        self._found[key] = found if known is None else replace(known, times=known.times + 1)

    def has(self, found: Event) -> bool:
        """Whether an equal event was added."""
        return (found.kind, found.path) in self._found

    @property
    def events(self) -> tuple[Event, ...]:
        """What counts against the tree, in the order first seen."""
        return tuple(event for event in self._found.values() if event.kind not in _NOTED)

    @property
    def noted(self) -> tuple[Event, ...]:
        """What was seen and does not."""
        return tuple(event for event in self._found.values() if event.kind in _NOTED)


def judge(
    calls: Sequence[Call],
    bounds: Bounds,
    *,
    left: Mapping[str, ScratchFile],
    resolve: Callable[[str], str],
) -> Findings:
    """Classifies a whole trace.

    Args:
        calls: the watched calls, in order.
        bounds: the run's folders and marker.
        left: the executable files left in the scratch folder, by path as the child saw it.
        resolve: follows symbolic links on this machine, as os.path.realpath does.

    Returns:
        Every event, and whether the program was seen to start at all.
    """
    findings = Findings()
    judging = _Judging(bounds=bounds, left=left, resolve=resolve, processes=Processes(calls))
    for call in calls:
        if findings.started:
            for event in judging.events(call):
                findings.add(event)
        elif call.name == "execve" and bounds.program in strings(call.arg(1)):
            findings.started = True
            judging = replace(judging, interpreter=resolve(string(call.arg(0)) or ""))
        judging.processes.observe(call)
    for path in sorted(left):
        event = judging.scratch_file(path, None)
        if not findings.has(event):
            findings.add(event)
    return findings


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judging:
    bounds: Bounds
    left: Mapping[str, ScratchFile]
    resolve: Callable[[str], str]
    processes: Processes
    interpreter: str = ""

    def events(self, call: Call) -> Iterator[Event]:
        name = call.name
        if name in tables.EXECUTES:
            yield self._executed(call)
        elif name in tables.OPENS:
            yield from self._opened(call)
        elif name in tables.CHANGES:
            for folder, path in tables.CHANGES[name]:
                yield from self._changed(self._path(call, folder, path), call)
        elif name in tables.CHANGES_DESCRIPTOR:
            yield from self._changed(descriptor_path(call.arg(0)) or "an unknown file", call)
        elif name in tables.SENDS:
            yield from _sent(call, call.arg(tables.SENDS[name]), among_ranks=self.bounds.ranks > 0)
        elif name == "bind":
            yield from _bound(call)
        elif name in tables.MAPS:
            yield from self._mapped(call)
        elif name in tables.ESCAPES:
            yield _event("escape", f"calls {name}", name, call)

    def _executed(self, call: Call) -> Event:
        index = 0 if call.name == "execve" else 1
        path = self._path(call, None if index == 0 else 0, index)
        real = self.resolve(path)
        compiler = tables.compiler_name(path) or tables.compiler_name(real)
        also = f" (which is {real})" if real != path else ""
        tried = "executes" if call.succeeded else "tries to execute"
        given = strings(call.arg(index + 1))
        argv = " ".join(given)
        if call.name == "execve" and real == self.interpreter and self._is_rank(given):
            return _event("rank", f"{tried} rank {given[3]}: {argv}", f"rank {given[3]}", call)
        if compiler is None:
            return _event("foreign-program", f"{tried} {path}{also}: {argv}", path, call)
        return _event(
            "compiler", f"{tried} the compiler {compiler}, {path}{also}: {argv}", path, call
        )

    def _is_rank(self, argv: Sequence[str]) -> bool:
        ranks = {str(rank) for rank in range(1, self.bounds.ranks + 1)}
        return list(argv[1:3]) == ["-m", _RANK] and bool(ranks & set(argv[3:4]))

    def _opened(self, call: Call) -> Iterator[Event]:
        folder, index, flags = tables.OPENS[call.name]
        asked = self._path(call, folder, index)
        path = (descriptor_path(call.result) or asked) if call.succeeded else asked
        if flags is None or tables.WRITE_FLAGS.search(call.arg(flags)):
            yield from self._changed(path, call)
        elif call.succeeded:
            package = tables.compile_package(path)
            if package is not None:
                yield _event("import", f"imports {package} ({path})", package, call)

    def _changed(self, path: str, call: Call) -> Iterator[Event]:
        if self._in_scratch(path) and call.error != "EROFS":
            if tables.EXECUTABLE_NAME.search(path) and not call.name.startswith(("unlink", "rm")):
                yield self.scratch_file(path, call)
        elif not _harmless(path):
            done = "changes" if call.succeeded else "tries to change"
            yield _event("write", f"{done} {path} ({call.name})", path, call)

    def _mapped(self, call: Call) -> Iterator[Event]:
        path = descriptor_path(call.arg(4)) if call.name == "mmap" else None
        if path is None:
            yield _event("executable-memory", "makes memory executable", call.name, call)
        elif path.startswith("/memfd:"):
            yield _event(
                "executable-mapping", f"loads machine code from memory ({path})", path, call
            )
        elif self._in_scratch(path):
            known = self.left.get(path)
            if known is None or not known.in_tree:
                what = f"loads machine code from the scratch folder ({path})"
                yield _event("executable-mapping", what, path, call)

    def scratch_file(self, path: str, call: Call | None) -> Event:
        """The event for an executable file at `path`, by its content where it is still there."""
        found = self.left.get(path)
        if found is not None and found.in_tree:
            return _event("tree-copy", f"copies a file of the tree to {path}", path, call)
        why = found.why if found is not None else "by its name; it was gone at the end"
        return _event("executable-file", f"makes an executable file, {path} ({why})", path, call)

    def _path(self, call: Call, folder: int | None, index: int) -> str:
        given = string(call.arg(index))
        base = descriptor_path(call.arg(folder)) if folder is not None else None
        if not given:  # NULL or empty: the call is about the descriptor itself
            return base or "an unknown file"
        base = base or self.processes.folder(call.pid) or "an unknown folder"
        return posixpath.normpath(posixpath.join(base, given))

    def _in_scratch(self, path: str) -> bool:
        return path == self.bounds.scratch or path.startswith(self.bounds.scratch + "/")


def _harmless(path: str) -> bool:
    if not path.startswith("/"):  # pipe:[1], socket:[1]: nothing that stays
        return re.match(r"(pipe|socket|anon_inode):", path) is not None
    return (
        path in tables.HARMLESS_DEVICES
        or path.startswith("/memfd:")
        or tables.THREAD_NAME.match(path) is not None
    )


def _sent(call: Call, address: str, *, among_ranks: bool) -> Iterator[Event]:
    family = _FAMILY.search(address)
    if family is None or family.group(1) in _SILENT_FAMILIES:
        return
    if family.group(1) == "AF_UNIX":
        socket_path = _SOCKET_PATH.search(address)
        where = socket_path.group(1).replace(chr(34), "") if socket_path else "an unnamed socket"
        if not where.startswith("@"):
            yield _event("local-socket", f"contacts the socket {where}", where, call)
            return
    else:
        where = _where(address, family.group(1))
        host = where.partition(" ")[0]
        if among_ranks and host in _LOOPBACK:
            yield _event("local-socket", f"speaks to another rank on {host}", host, call)
            return
    verb = "connects" if call.name == "connect" else "sends"
    tried = verb if call.succeeded else f"tries to {verb[:-1]}"
    yield _event("network", f"{tried} to {where}", where, call)


def _bound(call: Call) -> Iterator[Event]:
    family = _FAMILY.search(call.arg(1))
    if family is not None and family.group(1) not in _SILENT_FAMILIES:
        where = _where(call.arg(1), family.group(1))
        yield _event("local-socket", f"binds a socket to {where}", f"bind {where}", call)


def _where(address: str, family: str) -> str:
    host, port = _ADDRESS.search(address), _PORT.search(address)
    if host is None:
        return f"{family} {address}"
    return f"{host.group(1)} port {port.group(1) if port else '?'}"


def _event(kind: EventKind, what: str, path: str, call: Call | None) -> Event:
    text = call.text if call is not None else ""
    shown = text if len(text) <= _CALL_SHOWN else f"{text[:_CALL_SHOWN]}..."
    return Event(kind=kind, what=_printable(what), path=_printable(path), call=_printable(shown))


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
