"""What a proof says, as frozen values with one JSON form."""

import json
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from lmi_artifacts.digest import JSONValue

FORMAT = 1
Decision = Literal["PROVEN", "REFUTED", "SKIPPED"]
EventKind = Literal[
    "compiler",  # a compiler, assembler, linker or build tool was executed, or tried
    "foreign-program",  # any other program was
    "import",  # a compiling Python package was imported
    "write",  # something outside the scratch folder was changed, or tried
    "executable-file",  # machine code appeared in the scratch folder
    "executable-mapping",  # machine code was loaded from the scratch folder or from memory
    "network",  # a connection or a datagram, loopback included, successful or not
    "escape",  # a call that changes the sandbox or hides from the observer
    "local-socket",  # noted only: a socket file, or a listening socket
    "executable-memory",  # noted only: code generated inside the process (oneDNN, libffi)
    "rank",  # noted only: one more process that a split model says that it runs in
    "tree-copy",  # noted only: a file of the tree, byte for byte, in the scratch folder
]


class ProofUnreadable(ValueError):
    """A proof's JSON does not have this format's shape."""

    def __init__(self, why: str) -> None:
        super().__init__(f"not a proof of format {FORMAT}: {why}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened, once or more often.

    Attributes:
        kind: its class.
        what: one sentence.
        path: the file, program or address it is about.
        call: the system call that showed it, as strace wrote it; empty for what was found
            afterwards.
        times: how often.
    """

    kind: EventKind
    what: str
    path: str
    call: str = ""
    times: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Observer:
    """Who watched, from where.

    Attributes:
        strace: its version line.
        kernel: the kernel's release.
        namespaces: what the child had of its own; `user` where no real root was needed.
        fresh_proc: whether /proc was the child's own process namespace's.
        calls: how many watched calls were seen.
    """

    strace: str
    kernel: str
    namespaces: tuple[str, ...]
    fresh_proc: bool
    calls: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """What one run took; None where it did not get that far.

    Attributes:
        seconds_to_ready: from the start of the process to the model being loaded.
        cpu_seconds_to_ready: the same in CPU seconds, ended children included.
        seconds_to_first_token: from the start of the process to the first token of the answer: the
            first chunk of a streamed one, the whole of any other.
        cpu_seconds_to_first_token: the same in CPU seconds.
        seconds: the whole run, the sandbox's set-up included.
        cpu_seconds: the same in CPU seconds, the observer included.
    """

    seconds_to_ready: float | None
    cpu_seconds_to_ready: float | None
    seconds_to_first_token: float | None
    cpu_seconds_to_first_token: float | None
    seconds: float
    cpu_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """The no-JIT proof of one served tree.

    Attributes:
        decision: PROVEN: it answered, with no event. REFUTED: it did not answer, or with events.
            SKIPPED: it could not be watched here, so nothing is known.
        reasons: why it is not PROVEN, a sentence each; empty when it is.
        events: everything that refutes, in the order seen; at most `EVENTS_KEPT` of them.
        events_total: how many there were in all, repeats included.
        noted: seen, and no reason against it.
        checked: what was looked for, a sentence each.
        djl_python: `real` or `stand-in`; None when the tree was never loaded.
        response: the answer's body.
        traced: the run that was watched.
        plain: the same run in the same sandbox without the observer: its figures are the artifact's
            own; None unless the watched run had no event.
        observer: who watched; None when SKIPPED before anything started.
        log: the end of what the child printed, kept only when it is not PROVEN.
    """

    decision: Decision
    reasons: tuple[str, ...] = ()
    events: tuple[Event, ...] = ()
    events_total: int = 0
    noted: tuple[Event, ...] = ()
    checked: tuple[str, ...] = ()
    djl_python: str | None = None
    response: str | None = None
    traced: Timing | None = None
    plain: Timing | None = None
    observer: Observer | None = None
    log: str = ""

    @property
    def seconds_to_first_token(self) -> float | None:
        """Wall seconds from process start to first token, without the observer."""
        return self.plain.seconds_to_first_token if self.plain else None

    @property
    def cpu_seconds_to_first_token(self) -> float | None:
        """CPU seconds from process start to first token, without the observer."""
        return self.plain.cpu_seconds_to_first_token if self.plain else None

    def line(self) -> str:
        """The proof in one line, for people."""
        match self.decision:
            case "PROVEN":
                return (
                    f"PROVEN: no compile event, no write outside the scratch folder; first token "
                    f"after {self.seconds_to_first_token or 0:.2f} s "
                    f"({self.cpu_seconds_to_first_token or 0:.2f} CPU s)"
                )
            case "REFUTED" | "SKIPPED":
                return f"{self.decision}: {'; '.join(self.reasons)}"

    def to_json(self) -> dict[str, JSONValue]:
        """The proof as JSON."""
        fields: dict[str, JSONValue] = json.loads(json.dumps(asdict(self)))  # tuples become lists
        return {
            "format": FORMAT,
            "seconds_to_first_token": self.seconds_to_first_token,
            "cpu_seconds_to_first_token": self.cpu_seconds_to_first_token,
            **fields,
        }


def parse(value: JSONValue) -> Proof:
    """Reads `Proof.to_json` back, after a round through JSON text or not.

    Raises:
        ProofUnreadable: another format, a missing or unknown field, or an unknown decision.
    """
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise ProofUnreadable("the field format is missing or has another value")
    derived = {"format", "seconds_to_first_token", "cpu_seconds_to_first_token"}
    fields: dict[str, Any] = {key: item for key, item in value.items() if key not in derived}
    if fields.get("decision") not in get_args(Decision):
        raise ProofUnreadable(f"unknown decision {fields.get('decision')!r}")
    try:
        return Proof(
            decision=fields.pop("decision"),
            reasons=tuple(fields.pop("reasons")),
            events=tuple(Event(**event) for event in fields.pop("events")),
            noted=tuple(Event(**event) for event in fields.pop("noted")),
            checked=tuple(fields.pop("checked")),
            traced=_timing(fields.pop("traced")),
            plain=_timing(fields.pop("plain")),
            observer=_observer(fields.pop("observer")),
            **fields,
        )
    except (KeyError, TypeError) as error:
        raise ProofUnreadable(str(error)) from error


def _timing(value: Any) -> Timing | None:  # noqa: ANN401 - JSON before it is checked
    return None if value is None else Timing(**value)


def _observer(value: Any) -> Observer | None:  # noqa: ANN401 - JSON before it is checked
    if value is None:
        return None
    return Observer(**{**value, "namespaces": tuple(value["namespaces"])})
