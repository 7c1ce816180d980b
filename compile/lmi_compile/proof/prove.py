"""The no-JIT proof: one watched run, judged; one plain run, timed; one as a stranger."""

import hashlib
import os
import platform
import shutil
import stat
import subprocess
import zipfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from lmi_artifacts.digest import JSONValue
from lmi_artifacts.errors import ArtifactRefused
from lmi_artifacts.foreign import parse_json
from lmi_artifacts.properties import PROPERTIES_NAME, parse_properties
from lmi_compile.proof import tables
from lmi_compile.proof.policy import Findings, ScratchFile, judge
from lmi_compile.proof.record import Observer, Proof, Timing
from lmi_compile.proof.sandbox import Ran, Sandbox, hand_over, run, sandbox
from lmi_compile.proof.trace import Trace, parse

DEFAULT_PROMPT = "The capital of France is"
DEFAULT_NEW_TOKENS = 4
DEFAULT_TIMEOUT_SECONDS = 300.0
EVENTS_KEPT = 200
_REASONS_KEPT = 10
_LOG_SHOWN = 400
_BLOCK = 1 << 20

_CHECKED = (
    (
        "the tree was mounted read-only at another path, its own path hidden, and everything else "
        "read-only but one empty scratch folder (TMPDIR)"
    ),
    "PATH was an empty folder, HOME an empty read-only one; PYTHONDONTWRITEBYTECODE=1",
    "own network namespace, loopback {loopback}",
    (
        "the entry point was executed three times, initialised by an empty request with the "
        "model's properties, then asked once"
    ),
    "no program was executed after the interpreter's own start, by any path{programs}",
    "nothing outside the scratch folder was created, changed or removed, attempts included",
    (
        "no machine code appeared in the scratch folder or was loaded from it or from memory, "
        "unless the tree has the same bytes"
    ),
    "no network connection or datagram, attempts and loopback included{connections}",
    f"no import of {', '.join(p.replace('/', '.') for p in tables.COMPILE_PACKAGES)}",
)


# What differs for a model that is split over processes.
_ALONE = {"loopback": "down", "programs": "", "connections": ""}
_SPLIT = {
    "loopback": "up for the model's ranks, and nobody else on it",
    "programs": ", but the same interpreter once for each further rank that runtime.json tells of",
    "connections": ", but those of the ranks to one another",
}


# Nobody's user id on every Linux; what a container may run as.
OTHER_USER = 65534
# How it was started for the third time: without real root no other user can be had.
AGAIN = {
    True: "over what that run left in its scratch folder, at another path, as user 65534,",
    False: "over what that run left in its scratch folder, at another path,",
}


def prove(
    tree: Path,
    *,
    prompt: str = DEFAULT_PROMPT,
    max_new_tokens: int = DEFAULT_NEW_TOKENS,
    request: Mapping[str, JSONValue] | None = None,
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
    strace: str = "strace",
) -> Proof:
    """Starts a served tree in a sealed child process and says whether serving it compiles nothing.

    Args:
        tree: the served tree's folder, with model.py and serving.properties at its root.
        prompt: the request's `inputs`.
        max_new_tokens: of the watched request; the plain, timed one asks for a single token.
        request: the whole body, for a tree that does not generate texts; both runs ask it.
        timeout_seconds: for each of the three runs.
        strace: the observer's name or path.

    Returns:
        The proof. A tree that compiles, dies, hangs or answers an error is REFUTED; where the child
        cannot be sealed or watched the proof is SKIPPED with the reason, never PROVEN.

    Raises:
        ArtifactRefused: there is no such folder.
        PackageInvalid: serving.properties cannot be read.
    """
    if not tree.is_dir():
        raise ArtifactRefused(str(tree), ["there is no such folder"])
    found = shutil.which(strace)
    if found is None:
        return _skipped(f"{strace} is not on PATH; install the package strace", None)
    serve = partial(run, properties=_properties(tree), timeout_seconds=timeout_seconds)
    ranks = _further_ranks(tree)
    with sandbox(tree, ranks) as box:
        traced = serve(box, request=request or _request(prompt, max_new_tokens), strace=found)
        trace = _trace(box)
        findings = judge(trace.calls, box.bounds, left=_left(box), resolve=os.path.realpath)
    why = _unobserved(traced, trace, findings)
    if why is not None and not findings.events:
        return _skipped(why, traced)
    observer = _observer(found, traced, trace)
    unanswered = _unanswered(traced, timeout_seconds)
    if findings.events or unanswered is not None:
        return _refuted(traced, findings, unanswered, observer, ranks)
    user = None if "user" in observer.namespaces or os.geteuid() else OTHER_USER
    plain, again = _started_again(tree, serve, request or _request(prompt, 1), user, ranks)
    for ran, what in ((plain, "in a second, plain run"), (again, AGAIN[user is not None])):
        unanswered = None if ran is None else _unanswered(ran, timeout_seconds)
        if ran is not None and unanswered is not None:
            why = f"watched, it answered; {what} {unanswered}"
            return _refuted(ran, findings, why, observer, ranks)
    return Proof(
        decision="PROVEN",
        noted=findings.noted[:EVENTS_KEPT],
        checked=(*_checked(ranks), f"it answered {AGAIN[user is not None]}"),
        djl_python=_djl_python(traced),
        response=_response(traced),
        traced=_timing(traced),
        plain=_timing(plain),
        observer=observer,
    )


def _started_again(
    tree: Path,
    serve: Callable[..., Ran],
    request: Mapping[str, JSONValue],
    user: int | None,
    ranks: int,
) -> tuple[Ran, Ran | None]:
    """Start twice more without the observer: as it was, for the times; then as a stranger."""
    with sandbox(tree, ranks) as box:
        plain = serve(box, request=request, strace=None)
        if "answer" not in plain.stages:
            return plain, None
        with sandbox(tree, ranks) as other:
            hand_over(box.scratch, other, user)
            return plain, serve(other, request=request, strace=None, user=user)


def _checked(ranks: int) -> tuple[str, ...]:
    words = _SPLIT if ranks else _ALONE
    return tuple(line.format(**words) for line in _CHECKED)


def _further_ranks(tree: Path) -> int:
    """How many processes beside the handler's own the tree's runtime.json tells of."""
    try:
        told = parse_json((tree / "runtime.json").read_bytes())
        return max(0, int(told["model"]["tensor_parallel_degree"]) - 1)
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def _request(prompt: str, max_new_tokens: int) -> dict[str, JSONValue]:
    return {"inputs": prompt, "parameters": {"max_new_tokens": max_new_tokens}}


def _properties(tree: Path) -> dict[str, str]:
    file = tree / PROPERTIES_NAME
    found = parse_properties(file.read_bytes()) if file.is_file() else {}
    return {key.removeprefix("option."): value for key, value in found.items()}


def _trace(box: Sandbox) -> Trace:
    if not box.trace.is_file():
        return Trace()
    with box.trace.open(encoding="utf-8", errors="surrogateescape", newline="\n") as lines:
        return parse(lines)


def _unobserved(traced: Ran, trace: Trace, findings: Findings) -> str | None:
    """Why the run shows nothing, or None when it was sealed and watched to its end."""
    log = traced.log.strip()[-_LOG_SHOWN:]
    if traced.problem is not None:
        return f"the child cannot be sealed here: {traced.problem}"
    if traced.setup is None:
        return f"the child cannot be watched here: {log or 'strace said nothing'}"
    if trace.unread:
        return f"strace wrote {len(trace.unread)} lines that cannot be read: {trace.unread[0]!r}"
    if not findings.started or not (trace.complete or traced.timed_out):
        return f"the observer did not see the whole run: {log or 'strace said nothing'}"
    return None


def _unanswered(ran: Ran, timeout_seconds: float) -> str | None:
    if "answer" in ran.stages:
        return None
    failed = ran.stages.get("failed")
    if failed is not None:
        return f"it did not answer: {str(failed['reason']).partition(chr(10))[0]}"
    reached = "ready, but" if "ready" in ran.stages else "not ready and"
    if ran.timed_out:
        return f"it did not answer: {reached} stopped after {timeout_seconds:g} s"
    return f"it did not answer: {reached} ended with exit code {ran.exit_code}"


def _refuted(
    ran: Ran, findings: Findings, unanswered: str | None, observer: Observer, ranks: int
) -> Proof:
    events = findings.events
    reasons = [event.what for event in events[:_REASONS_KEPT]]
    if len(events) > _REASONS_KEPT:
        reasons.append(f"and {len(events) - _REASONS_KEPT} more events")
    if unanswered is not None:
        reasons.append(unanswered)
    return Proof(
        decision="REFUTED",
        reasons=tuple(reasons),
        events=events[:EVENTS_KEPT],
        events_total=sum(event.times for event in events),
        noted=findings.noted[:EVENTS_KEPT],
        checked=_checked(ranks),
        djl_python=_djl_python(ran),
        response=_response(ran),
        traced=_timing(ran),
        observer=observer,
        log=ran.log,
    )


def _skipped(why: str, ran: Ran | None) -> Proof:
    return Proof(decision="SKIPPED", reasons=(why,), log=ran.log if ran is not None else "")


def _djl_python(ran: Ran) -> str | None:
    loaded = ran.stages.get("loaded")
    if loaded is None:
        return None
    return "stand-in" if str(loaded["djl_python"]).endswith("djl_stand_in.py") else "real"


def _response(ran: Ran) -> str | None:
    answer = ran.stages.get("answer")
    return str(answer["body"]) if answer is not None else None


def _timing(ran: Ran) -> Timing:
    ready: Mapping[str, JSONValue] = ran.stages.get("ready", {})
    answer = ran.stages.get("answer", {})
    first = answer.get("first_token")
    token: Mapping[str, JSONValue] = first if isinstance(first, Mapping) else {}
    return Timing(
        seconds_to_ready=_number(ready.get("seconds")),
        cpu_seconds_to_ready=_number(ready.get("cpu_seconds")),
        seconds_to_first_token=_number(token.get("seconds")),
        cpu_seconds_to_first_token=_number(token.get("cpu_seconds")),
        seconds=ran.seconds,
        cpu_seconds=ran.cpu_seconds,
    )


def _number(value: JSONValue) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _observer(strace: str, ran: Ran, trace: Trace) -> Observer:
    said = subprocess.run([strace, "-V"], capture_output=True, text=True, check=False).stdout
    setup = ran.setup or {}
    names = setup.get("namespaces")
    return Observer(
        strace=said.partition("\n")[0],
        kernel=platform.release(),
        namespaces=tuple(str(name) for name in names) if isinstance(names, list) else (),
        fresh_proc=setup.get("fresh_proc") is True,
        calls=len(trace.calls),
    )


def _left(box: Sandbox) -> dict[str, ScratchFile]:
    """The executable files that a run left in its scratch folder."""
    found = {path: why for path in _files(box.scratch) if (why := _executable(path)) is not None}
    if not found:
        return {}
    known = {digest for path in _files(box.tree) for digest in _digests(path)}
    return {
        str(path): ScratchFile(why=why, in_tree=_digest(path) in known)
        for path, why in found.items()
    }


def _files(folder: Path) -> Iterator[Path]:
    for root, _, names in os.walk(folder):
        for name in names:
            path = Path(root, name)
            if stat.S_ISREG(path.lstat().st_mode):
                yield path


def _executable(path: Path) -> str | None:
    with path.open("rb") as file:
        if file.read(len(tables.ELF_MAGIC)) == tables.ELF_MAGIC:
            return "an ELF file"
    if tables.EXECUTABLE_NAME.search(path.name):
        return f"named {path.suffix}"
    return "mode +x" if path.stat().st_mode & 0o111 else None


def _digests(path: Path) -> Iterator[str]:
    """The sha256 of a file, and of each member where it is a zip archive, as a .pt2 is."""
    yield _digest(path)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                digest = hashlib.sha256()
                with archive.open(member) as file:
                    while block := file.read(_BLOCK):
                        digest.update(block)
                yield digest.hexdigest()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
