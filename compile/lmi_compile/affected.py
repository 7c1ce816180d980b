"""Which artifacts in use were built with a combination that is now known to be bad."""

import shlex
from dataclasses import dataclass

from lmi_artifacts.digest import JSONValue
from lmi_artifacts.errors import ArtifactRefused
from lmi_artifacts.manifest import Manifest
from lmi_artifacts.reference import ArtifactRef
from lmi_artifacts.registry import Registry
from lmi_recipes.catalog import catalog_names
from lmi_recipes.toolchain import KnownBad, Toolchain


@dataclass(frozen=True, slots=True, kw_only=True)
class Affected:
    """One artifact that something points at, and what is wrong with it.

    Attributes:
        ref: the artifact.
        tags: what points at it.
        bad: the combination.
        command: what makes a good one in its place, or takes it back where nothing does.
    """

    ref: ArtifactRef
    tags: tuple[str, ...]
    bad: KnownBad
    command: str

    def to_json(self) -> dict[str, JSONValue]:
        """As `--json` prints it."""
        return {
            "artifact": str(self.ref),
            "tags": list(self.tags),
            "what": self.bad.what,
            "why": self.bad.why,
            "source": self.bad.source,
            "command": self.command,
        }


def affected_by(registry: Registry, toolchain: Toolchain) -> tuple[Affected, ...]:
    """Every tagged artifact that `toolchain` built and now knows to be bad.

    Raises:
        RegistryUnavailable, RegistryTransient: the registry cannot be read.
    """
    found = []
    for summary in registry.list():
        if not summary.tags or summary.problems or registry.revocation(summary.ref) is not None:
            continue
        try:
            manifest = registry.manifest(summary.ref)
        except ArtifactRefused:
            continue
        if manifest.toolchain.get("name") != toolchain.name:
            continue
        for bad in toolchain.known_bad:
            if bad.holds_for(manifest.recipe):
                command = _command(registry, summary.ref, manifest, bad)
                found.append(Affected(ref=summary.ref, tags=summary.tags, bad=bad, command=command))
    return tuple(found)


def _command(registry: Registry, ref: ArtifactRef, manifest: Manifest, bad: KnownBad) -> str:
    """The same recipe around what is bad; without a way around it, the way to take it back."""
    at = f"--registry {registry.url}"
    if bad.instead is None:
        return f"lmi-compile revoke {ref} --why {shlex.quote(bad.what)} {at}"
    name = manifest.name
    recipe = name if name in catalog_names() else f"matrix RECIPES --select name={name}"
    return f"lmi-compile {recipe} --set {bad.instead} {at}"
