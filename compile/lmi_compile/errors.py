"""What can go wrong, whose fault it is, and the exit code each kind ends with.

    CompileError
    ├── Unsupported          the recipe is valid, but this model, target or toolchain cannot do it
    ├── ModelFault           the model the recipe names is missing, damaged or not what it says
    ├── ToolFailed           a compiler or another foreign tool failed
    ├── VerificationFailed   the outputs are not the reference's
    ├── ProofFailed          serving the artifact compiled, wrote or connected
    ├── DeployFailed         an endpoint did not come up, rolled back, or was refused
    ├── EndpointFailed       what serves the model answered with a failure of its own
    ├── RequestRefused       what serves the model does not take this request
    ├── EnvironmentFault     this machine lacks something
    ├── MatrixInvalid        several recipes that cannot be built together, as they are named
    ├── Transient            a failure that a later try may not meet
    ├── Interrupted          somebody stopped it; it resumes
    └── OurBug               none of the above: please report it

The other rooms' errors keep their own types; the table below gives every type its exit code.
"""

import errno
import os
from enum import IntEnum
from typing import ClassVar, Final

from lmi_artifacts.errors import (
    ArtifactsError,
    PackageInvalid,
    PublishFailed,
    PullFailed,
    ReferenceAmbiguous,
    ReferenceInvalid,
    RegistryTransient,
    RegistryUnavailable,
    TagMoved,
)
from lmi_recipes.errors import RecipeImpossible, RecipesError
from lmi_verify.errors import (
    GateInvalid,
    LimitsTooSmall,
    ModelUnreadable,
    PromptSetUnknown,
    TaskUnavailable,
    VerifyError,
)

FULL: Final = os.strerror(errno.ENOSPC)


class ExitCode(IntEnum):
    """The one table of exit codes."""

    OK = 0
    BUG = 1
    USAGE = 2
    IMPOSSIBLE = 3
    COMPILE_FAILED = 4
    VERIFICATION_FAILED = 5
    PROOF_FAILED = 6
    PUBLISH_FAILED = 7
    ENVIRONMENT = 8
    MATRIX_PART_FAILED = 9
    REFUSED = 10
    TRANSIENT = 75
    INTERRUPTED = 130


class CompileError(Exception):
    """A failure that a person can act on.

    Attributes:
        what: what happened, one sentence.
        why: the cause, as far as it is known.
        fix: what to do next.
        log: where the failed step's log is, or None.
    """

    title: ClassVar[str] = "failed"

    def __init__(self, what: str, why: str = "", fix: str = "", log: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.fix = fix
        self.log = log

    def __str__(self) -> str:
        return "\n".join(part for part in (self.what, self.why) if part)


class Unsupported(CompileError):
    """The recipe is valid, but this model, target or toolchain cannot do it."""

    title = "not possible"


class ModelFault(CompileError):
    """The model that the recipe names is missing, damaged or not what the recipe says."""

    title = "model refused"


class ToolFailed(CompileError):
    """A compiler or another foreign tool failed."""

    title = "compile failed"


class VerificationFailed(CompileError):
    """The candidate's outputs are not the reference's, or could not be compared with them."""

    title = "verification failed"


class ProofFailed(CompileError):
    """Serving the packaged tree compiled, wrote outside its scratch folder, or connected."""

    title = "no-JIT proof failed"


class DeployFailed(CompileError):
    """An endpoint did not come up, was rolled back, or the service refused the request."""

    title = "deployment failed"


class EndpointFailed(CompileError):
    """What serves the model answered with a failure of its own."""

    title = "endpoint failed"


class RequestRefused(CompileError):
    """What serves the model does not take this request."""

    title = "request refused"


class EnvironmentFault(CompileError):
    """This machine lacks something that the recipe's toolchain needs."""

    title = "environment"


class MatrixInvalid(CompileError):
    """Several recipes that cannot be built together: names twice, or nothing selected."""

    title = "matrix refused"


class Transient(CompileError):
    """A failure from outside that a later try may not meet."""

    title = "try again"


class Interrupted(CompileError):
    """Somebody stopped the run; what had finished is kept."""

    title = "interrupted"


class OurBug(CompileError):
    """A failure that should not be possible."""

    title = "a bug in lmi-compile"


_CODES: tuple[tuple[type[Exception], ExitCode], ...] = (
    (Unsupported, ExitCode.IMPOSSIBLE),
    (ModelFault, ExitCode.IMPOSSIBLE),
    (ToolFailed, ExitCode.COMPILE_FAILED),
    (VerificationFailed, ExitCode.VERIFICATION_FAILED),
    (ProofFailed, ExitCode.PROOF_FAILED),
    (DeployFailed, ExitCode.PUBLISH_FAILED),
    (EndpointFailed, ExitCode.ENVIRONMENT),
    (RequestRefused, ExitCode.USAGE),
    (EnvironmentFault, ExitCode.ENVIRONMENT),
    (MatrixInvalid, ExitCode.USAGE),
    (Transient, ExitCode.TRANSIENT),
    (Interrupted, ExitCode.INTERRUPTED),
    (RecipeImpossible, ExitCode.IMPOSSIBLE),
    (RecipesError, ExitCode.USAGE),
    (PackageInvalid, ExitCode.PUBLISH_FAILED),
    (PublishFailed, ExitCode.PUBLISH_FAILED),
    (PullFailed, ExitCode.PUBLISH_FAILED),
    (ReferenceInvalid, ExitCode.USAGE),
    (ReferenceAmbiguous, ExitCode.USAGE),
    (RegistryTransient, ExitCode.TRANSIENT),
    (RegistryUnavailable, ExitCode.ENVIRONMENT),
    (TagMoved, ExitCode.TRANSIENT),
    (ArtifactsError, ExitCode.REFUSED),
    (ModelUnreadable, ExitCode.IMPOSSIBLE),
    (LimitsTooSmall, ExitCode.IMPOSSIBLE),
    (GateInvalid, ExitCode.USAGE),
    (PromptSetUnknown, ExitCode.USAGE),
    (TaskUnavailable, ExitCode.ENVIRONMENT),
    (VerifyError, ExitCode.VERIFICATION_FAILED),
)
_KINDS: dict[str, type[CompileError]] = {
    kind.__name__: kind
    for kind in (
        Unsupported,
        ModelFault,
        ToolFailed,
        VerificationFailed,
        ProofFailed,
        DeployFailed,
        EndpointFailed,
        RequestRefused,
        EnvironmentFault,
        Transient,
        Interrupted,
        OurBug,
    )
}
_FOREIGN: tuple[tuple[type[Exception], type[CompileError]], ...] = (
    (ModelUnreadable, ModelFault),
    (LimitsTooSmall, Unsupported),
    (TaskUnavailable, EnvironmentFault),
    (VerifyError, VerificationFailed),
)


def exit_code_of(error: BaseException) -> ExitCode:
    """The exit code that `error` ends the command with; an unknown type is our bug."""
    for kind, code in _CODES:
        if isinstance(error, kind):
            return code
    return ExitCode.BUG


def to_failure(error: Exception) -> dict[str, str]:
    """`error` as JSON that crosses a process boundary."""
    if isinstance(error, CompileError):
        return {
            "kind": type(error).__name__,
            "what": error.what,
            "why": error.why,
            "fix": error.fix,
        }
    if _is_full(error):
        return {
            "kind": EnvironmentFault.__name__,
            "what": "the disk is full",
            "why": str(error)[-2000:],
            "fix": "free some space (`lmi-compile cache prune`), or name another --cache-dir",
        }
    for foreign, kind in _FOREIGN:
        if isinstance(error, foreign):
            return {"kind": kind.__name__, "what": str(error), "why": "", "fix": ""}
    return {
        "kind": OurBug.__name__,
        "what": f"{type(error).__name__}: {error}",
        "why": "",
        "fix": "report it with the step's log",
    }


def to_json(error: Exception) -> dict[str, str]:
    """`error` as the command says it in JSON: also what is another room's own word."""
    failure = to_failure(error)
    if failure["kind"] == OurBug.__name__ and exit_code_of(error) is not ExitCode.BUG:
        return {"kind": type(error).__name__, "what": str(error), "why": "", "fix": ""}
    return failure


def _is_full(error: BaseException | None) -> bool:
    """Whether a full disk is behind an error, by its number or in a library's words."""
    while error is not None:
        if getattr(error, "errno", None) in {errno.ENOSPC, errno.EDQUOT} or FULL in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def from_failure(failure: dict[str, str], log: str | None) -> CompileError:
    """The error that `to_failure` wrote in another process."""
    kind = _KINDS.get(failure.get("kind", ""), OurBug)
    return kind(failure.get("what", ""), failure.get("why", ""), failure.get("fix", ""), log)
