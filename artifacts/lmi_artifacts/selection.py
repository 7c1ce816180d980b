"""Choosing: the newest artifact of a model that a machine and a container can load, or why none.

    from lmi_artifacts.machine import find_machine
    from lmi_artifacts.registry import open_registry
    from lmi_artifacts.selection import Wish, choose

    registry = open_registry("s3://models/registry")
    wish = Wish(model="meta-llama/Llama-2-7b-hf", machine=find_machine("ml.g5.12xlarge"))
    ref = choose(registry, wish).ref

Imports neither torch nor botocore by itself; botocore comes with an s3:// registry.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lmi_artifacts.errors import ArtifactRefused, ArtifactsError
from lmi_artifacts.machine import Machine
from lmi_artifacts.manifest import Manifest
from lmi_artifacts.pulling import runs_remote_code
from lmi_artifacts.reference import ArtifactRef
from lmi_artifacts.registry import Candidate, Registry
from lmi_artifacts.trust import Demand, refusals


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What an artifact is wanted for.

    Attributes:
        model: the model's id as the recipe names it, or the artifact's name.
        machine: what it has to load on.
        container: image reference, or a part of one, that will serve it; None is any.
        quantization: the method it must have; None is any.
        tag: the tag that a promotion moves.
        demands: what must be true of it.
        keys: public keys that may vouch for it.
        trust_remote_code: accept artifacts whose model runs code of its own repository.
    """

    model: str
    machine: Machine
    container: str | None = None
    quantization: str | None = None
    tag: str = "prod"
    demands: Sequence[Demand] = ("verified", "proven")
    keys: Sequence[Path] = ()
    trust_remote_code: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why one artifact was not chosen."""

    ref: ArtifactRef
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.ref}: {'; '.join(self.reasons)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What was chosen, and what newer ones were not."""

    ref: ArtifactRef
    manifest: Manifest
    refused: tuple[Refusal, ...]


class NothingFits(ArtifactRefused):
    """No artifact of that model can be used; says why of each."""

    def __init__(self, wish: Wish, where: str, refused: Sequence[Refusal]) -> None:
        what = f"every artifact of {wish.model} tagged {wish.tag} in {where}"
        reasons = [str(one) for one in refused]
        super().__init__(what, reasons or [f"nothing of that model carries the tag {wish.tag}"])
        self.refused = tuple(refused)


def choose(registry: Registry, wish: Wish) -> Choice:
    """Choose the newest that can be used; on S3 at most 5 requests if the newest fits.

    Raises:
        NothingFits: none can; with the reason for each candidate.
        ArtifactsError: the registry cannot be read.
    """
    refused: list[Refusal] = []
    for candidate in registry.tagged(wish.tag, wish.model):
        reasons = _at_a_glance(candidate, wish)
        manifest = None
        if not reasons:
            try:
                manifest, reasons = _closely(registry, candidate, wish)
            except ArtifactRefused as error:
                reasons = list(error.problems)
            except ArtifactsError as error:
                reasons = [str(error)]
        if manifest is not None and not reasons:
            return Choice(ref=candidate.ref, manifest=manifest, refused=tuple(refused))
        refused.append(Refusal(ref=candidate.ref, reasons=tuple(reasons)))
    raise NothingFits(wish, registry.url, refused)


def _at_a_glance(candidate: Candidate, wish: Wish) -> list[str]:
    reasons = list(wish.machine.refusals(candidate.serving, wish.container))
    if wish.quantization is not None and candidate.quantization != wish.quantization:
        reasons.append(f"its quantization is {candidate.quantization}, not {wish.quantization}")
    return reasons


def _closely(
    registry: Registry, candidate: Candidate, wish: Wish
) -> tuple[Manifest | None, list[str]]:
    ref = candidate.ref
    if registry.tag(ref.name, wish.tag) != ref.digest:
        return None, [f"the tag {wish.tag} has just moved away from it"]
    said = registry.inspect(ref)
    manifest = said.manifest
    if said.revoked is not None:
        return None, [f"it was revoked: {said.revoked}"]
    reasons = list(wish.machine.refusals(manifest.serving, wish.container))
    if runs_remote_code(manifest) and not wish.trust_remote_code:
        reasons.append("its model runs code of its own repository; say --trust-remote-code")
    reasons += refusals(ref, said.statements, wish.demands, wish.keys)
    return manifest, reasons
