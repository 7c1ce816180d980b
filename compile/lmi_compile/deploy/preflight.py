"""Whether an artifact may be deployed to an instance type; every reason against it at once."""

from collections.abc import Collection, Sequence
from pathlib import Path

from lmi_artifacts.errors import ArtifactRefused
from lmi_artifacts.machine import find_machine
from lmi_artifacts.reference import ArtifactRef
from lmi_artifacts.registry import Inspected, Registry
from lmi_artifacts.statement import NO_JIT_PROOF
from lmi_artifacts.trust import Demand, refusals


def checked(
    registry: Registry,
    ref: ArtifactRef,
    instance_type: str,
    demands: Sequence[Demand],
    keys: Sequence[Path],
) -> Inspected:
    """Read an artifact, and refuse what would not load, or is not trusted.

    Args:
        registry: that holds it.
        ref: the artifact.
        instance_type: of the endpoint.
        demands: what must be true of it.
        keys: public keys that may vouch for it.

    Raises:
        ArtifactRevoked: somebody took it back.
        ArtifactRefused: the instance cannot load it, or a demand is not met.
        ReferenceInvalid: nothing known has that instance type's name.
    """
    registry.refuse_revoked(ref)
    machine = find_machine(instance_type)
    found = registry.inspect(ref)
    problems = list(machine.refusals(found.manifest.serving, None))
    if found.manifest.simulated:
        problems.append("a simulator made it; it serves nothing")
    problems += refusals(ref, found.statements, demands, keys)
    if problems:
        raise ArtifactRefused(str(ref), problems)
    return found


def ready_seconds(found: Inspected) -> float | None:
    """Seconds from process start to a loaded model, as the newest proof measured them."""
    for statement in reversed(found.statements):
        if statement.predicate_type == NO_JIT_PROOF:
            match statement.predicate.get("plain"):
                case {"seconds_to_ready": float() | int() as seconds}:
                    return float(seconds)
                case _:
                    return None
    return None


def unknown_instance(name: str, known: Collection[str]) -> None:
    """Refuse an instance type that SageMaker endpoints do not have.

    Raises:
        ArtifactRefused: with the nearest that there are.
    """
    if name in known:
        return
    from difflib import get_close_matches  # noqa: PLC0415 - only a failure needs it

    near = ", ".join(get_close_matches(name, list(known), n=3))
    raise ArtifactRefused(name, [f"is no instance type of endpoints; the nearest: {near}"])
