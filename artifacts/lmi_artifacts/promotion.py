"""Moving a tag on purpose: a policy decides, a statement records who, when and why."""

import getpass
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from lmi_artifacts.digest import Digest, JSONValue
from lmi_artifacts.errors import ArtifactNotFound, ArtifactRefused, ReferenceInvalid
from lmi_artifacts.reference import ArtifactRef
from lmi_artifacts.registry import Registry
from lmi_artifacts.statement import Statement
from lmi_artifacts.trust import DEMANDS, PROMOTION, REVOCATION, Demand, now_text, refusals

BENCHMARK: Final = "urn:lmi-compile:benchmark:v1"
_FIELDS = ("require", "keys", "max_age_days", "benchmark_metric", "benchmark_max_loss")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What an artifact must be before a tag moves to it.

    Attributes:
        require: demands it must meet.
        keys: public keys that may vouch for it.
        max_age_days: how old its verdict may be at most; None is any age.
        benchmark_metric: a number of the benchmark statement, the greater the better.
        benchmark_max_loss: the part of it, 0 to 1, that may be lost against what it replaces.
    """

    require: tuple[Demand, ...] = ("verified", "proven")
    keys: tuple[Path, ...] = ()
    max_age_days: float | None = None
    benchmark_metric: str | None = None
    benchmark_max_loss: float = 0.0


def read_policy(path: Path) -> Policy:
    """Read a policy from a TOML file; keys are relative to it.

    Raises:
        ReferenceInvalid: it is unreadable, or has a field or a value that a policy has not.
    """
    try:
        found = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ReferenceInvalid(str(path), f"cannot be read as a policy: {error}") from None
    unknown = sorted(set(found) - set(_FIELDS))
    if unknown:
        why = f"has the unknown field {', '.join(unknown)}; known are {', '.join(_FIELDS)}"
        raise ReferenceInvalid(str(path), why)
    match {"require": list(DEMANDS[1:]), "keys": [], "benchmark_max_loss": 0.0} | found:
        case {
            "require": list(require),
            "keys": list(keys),
            "benchmark_max_loss": int() | float() as loss,
        } if set(require) <= set(DEMANDS):
            pass
        case _:
            raise ReferenceInvalid(str(path), "has a value of another kind than a policy's")
    age, metric = found.get("max_age_days"), found.get("benchmark_metric")
    if not isinstance(age, int | float | None) or not isinstance(metric, str | None):
        raise ReferenceInvalid(str(path), "max_age_days is a number, benchmark_metric is text")
    return Policy(
        require=tuple(word for word in DEMANDS if word in require),
        keys=tuple(path.parent / str(key) for key in keys),
        max_age_days=age,
        benchmark_metric=metric,
        benchmark_max_loss=float(loss),
    )


def promote(registry: Registry, ref: ArtifactRef, tag: str, policy: Policy, why: str) -> None:
    """Move a tag to an artifact that the policy accepts, and record it.

    Raises:
        ArtifactRefused: the policy does not accept it; names every reason.
        TagMoved: somebody moved the tag meanwhile.
    """
    registry.refuse_revoked(ref)
    before = registry.tag(ref.name, tag)
    problems = _problems(registry, ref, before, policy)
    if problems:
        raise ArtifactRefused(f"promoting {ref} to {tag}", problems)
    registry.move_tag(ref, tag, expected=before)
    _record(registry, ref, tag, before, why)


def _problems(
    registry: Registry, ref: ArtifactRef, before: Digest | None, policy: Policy
) -> list[str]:
    said = registry.statements(ref)
    problems = list(refusals(ref, said, policy.require, policy.keys))
    if registry.manifest(ref).simulated:
        problems.append("a simulator made it")
    if policy.max_age_days is not None:
        problems += _age_problems(registry, ref, policy.max_age_days)
    if policy.benchmark_metric is not None:
        now = _metric(said, policy.benchmark_metric)
        if now is None:
            problems.append(f"it has no benchmark with {policy.benchmark_metric}")
        elif before is not None and before != ref.digest:
            old = ArtifactRef(name=ref.name, digest=before)
            then = _metric(registry.statements(old), policy.benchmark_metric)
            if then is not None and now < then * (1 - policy.benchmark_max_loss):
                problems.append(f"{policy.benchmark_metric} fell from {then:g} to {now:g}")
    return problems


def _age_problems(registry: Registry, ref: ArtifactRef, most: float) -> list[str]:
    created = next((line.created for line in registry.list() if line.ref == ref), None)
    if created is None:
        return ["its age is not known"]
    born = datetime.strptime(created, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    days = (datetime.now(UTC) - born).total_seconds() / 86_400
    return [f"it is {days:.1f} days old; the policy allows {most:g}"] if days > most else []


def _metric(said: Sequence[Statement], name: str) -> float | None:
    for item in reversed(said):
        if item.predicate_type == BENCHMARK:
            value = item.predicate.get(name)
            if isinstance(value, int | float) and not isinstance(value, bool):
                return float(value)
    return None


def _record(
    registry: Registry, ref: ArtifactRef, tag: str, before: Digest | None, why: str
) -> None:
    predicate: Mapping[str, JSONValue] = {
        "tag": tag,
        "who": who(),
        "when": now_text(),
        "why": why,
        "replaced": None if before is None else str(before),
        "nonce": os.urandom(8).hex(),
    }
    registry.add_statement(
        ref,
        Statement(name=ref.name, subject=ref.digest, predicate_type=PROMOTION, predicate=predicate),
    )


def rollback(registry: Registry, name: str, tag: str, why: str) -> ArtifactRef:
    """Move a tag back to what its newest promotion replaced, and record that, too.

    Raises:
        ArtifactNotFound: the tag is not there, or no promotion of it is on record.
        ArtifactRevoked: what it would go back to was revoked.
    """
    now = registry.tag(name, tag)
    if now is None:
        raise ArtifactNotFound(f"{name}:{tag}", registry.url)
    ref = ArtifactRef(name=name, digest=now)
    for item in reversed(registry.statements(ref)):
        if item.predicate_type == PROMOTION and item.predicate.get("tag") == tag:
            replaced = item.predicate.get("replaced")
            if isinstance(replaced, str):
                back = ArtifactRef(name=name, digest=Digest.parse(replaced))
                registry.refuse_revoked(back)
                registry.move_tag(back, tag, expected=now)
                _record(registry, back, tag, now, why)
                return back
            break
    raise ArtifactNotFound(f"what {name}:{tag} pointed at before {ref.digest}", registry.url)


def revoke(registry: Registry, ref: ArtifactRef, reason: str) -> None:
    """Take an artifact back at once, and record who did it and why."""
    registry.mark_revoked(ref, reason)
    registry.add_statement(
        ref,
        Statement(
            name=ref.name,
            subject=ref.digest,
            predicate_type=REVOCATION,
            predicate={"reason": reason, "who": who(), "when": now_text()},
        ),
    )


def who() -> str:
    """Who is at work, as far as this machine knows; `LMI_ACTOR` names a service."""
    try:
        return os.environ.get("LMI_ACTOR") or getpass.getuser()
    except (OSError, KeyError):
        return f"uid {os.getuid()}"
