"""Work on whole registries: what differs, what may go, and copies for places without a network."""

import tempfile
import time
from calendar import timegm
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lmi_artifacts.digest import JSONValue
from lmi_artifacts.errors import ArtifactRefused
from lmi_artifacts.reference import ArtifactRef
from lmi_artifacts.registry import Registry, Summary
from lmi_artifacts.statement import Statement


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """What is kept beside everything that carries a tag.

    Attributes:
        newest: how many of each name.
        days: everything younger than this.
    """

    newest: int = 10
    days: float = 30.0


def expired(summaries: Sequence[Summary], rules: Retention) -> tuple[ArtifactRef, ...]:
    """Give the artifacts that no tag and no rule keeps."""
    places: dict[str, int] = {}
    found: list[ArtifactRef] = []
    for line in summaries:  # by name, newest first
        place = places[line.ref.name] = places.get(line.ref.name, 0) + 1
        born = timegm(time.strptime(line.created, "%Y-%m-%dT%H:%M:%SZ"))
        age = (time.time() - born) / 86_400
        if not line.tags and place > rules.newest and age > rules.days:
            found.append(line.ref)
    return tuple(found)


def mirror(source: Registry, target: Registry, ref: ArtifactRef, scratch: Path | None) -> bool:
    """Copy one artifact with all that is said about it, every byte verified on the way.

    Returns:
        Whether it was not there before.

    Raises:
        ArtifactRevoked: it was taken back.
        ArtifactRefused: it is damaged at its source.
    """
    source.refuse_revoked(ref)
    manifest = source.manifest(ref)
    said = source.statements(ref)
    with tempfile.TemporaryDirectory(prefix=".mirror", dir=scratch) as folder:
        pulled = source.pull(
            ref, Path(folder, "tree"), trust_remote_code=True
        )  # whoever pulls is asked
        published = target.publish(pulled.path, manifest, statements=said)
    if published.ref != ref:
        raise ArtifactRefused(str(ref), [f"arrived as {published.ref}"])
    target.check(ref, rehash=True)
    return published.created


def diff(registry: Registry, one: ArtifactRef, two: ArtifactRef) -> dict[str, JSONValue]:
    """Say what differs between two artifacts: recipe, toolchain, serving, files, decisions."""
    left, right = registry.manifest(one), registry.manifest(two)
    found: dict[str, JSONValue] = {}
    for part in ("recipe", "toolchain", "steps", "serving"):
        changed: dict[str, JSONValue] = {}
        _changes("", getattr(left, part), getattr(right, part), changed)
        if changed:
            found[part] = changed
    before = {file.path: file for file in left.files}
    after = {file.path: file for file in right.files}
    files: dict[str, JSONValue] = {}
    for path in sorted(before.keys() | after.keys()):
        old, new = before.get(path), after.get(path)
        if old != new:
            files[path] = [_shown(old), _shown(new)]
    if files:
        found["files"] = files
    if left.size != right.size:
        found["size"] = [left.size, right.size]
    decisions = (_decisions(registry.statements(one)), _decisions(registry.statements(two)))
    said: dict[str, JSONValue] = {}
    _changes("", decisions[0], decisions[1], said)
    if said:
        found["statements"] = said
    return found


def _shown(file: object) -> JSONValue:
    size, sha256 = getattr(file, "size", None), getattr(file, "sha256", None)
    return None if size is None else f"{size} bytes, {str(sha256)[:12]}"


def _decisions(said: Sequence[Statement]) -> dict[str, JSONValue]:
    found: dict[str, JSONValue] = {}
    for item in said:
        if "decision" in item.predicate:
            found[item.predicate_type] = item.predicate["decision"]
    return found


def _changes(where: str, one: JSONValue, two: JSONValue, out: dict[str, JSONValue]) -> None:
    if isinstance(one, Mapping) and isinstance(two, Mapping):
        for key in sorted(one.keys() | two.keys()):
            inner = f"{where}.{key}" if where else key
            _changes(inner, one.get(key), two.get(key), out)
    elif one != two:
        out[where or "value"] = [one, two]
