"""`prove --static`: which contract and image a tree is for, and how the result is shown."""

from dataclasses import dataclass
from pathlib import Path

from lmi_artifacts.container import CONTRACT
from lmi_artifacts.createmodel import image_of
from lmi_artifacts.errors import ArtifactRefused
from lmi_artifacts.images import Image, find_image
from lmi_artifacts.manifest import Manifest
from lmi_artifacts.static_proof import StaticProof, guess_contract, newest_image, prove_static
from lmi_artifacts.static_rules import DJL
from lmi_artifacts.tree import read_manifest
from lmi_compile.console import Console
from lmi_compile.errors import ExitCode, ProofFailed


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the command line says; None is found out."""

    image: str | None
    contract: str | None
    accelerators: int


def prove(tree: Path, manifest: Manifest | None, wanted: Wanted, console: Console) -> int:
    """Prove a tree statically, and show the result.

    Raises:
        ProofFailed: a rule is broken; names each.
        ArtifactRefused: the image is no published one.
    """
    manifest = manifest or _manifest_of(tree)
    said = None if manifest is None else manifest.serving.get("contract", CONTRACT)
    contract = wanted.contract or (str(said) if said else guess_contract(tree))
    image = _image(manifest, wanted.image, contract)
    proof = prove_static(tree, contract, image, wanted.accelerators)
    if console.as_json:
        console.json(proof.to_json())
    _show(console, proof)
    if proof.broken:
        count = len(proof.broken)
        what = f"{tree.name}: {count} rule{'s' if count > 1 else ''} of its container broken"
        raise ProofFailed(what, "\n".join(map(str, proof.broken)), "correct the tree")
    return ExitCode.OK


def _manifest_of(tree: Path) -> Manifest | None:
    try:
        return read_manifest(tree)
    except ArtifactRefused:
        return None


def _image(manifest: Manifest | None, asked: str | None, contract: str) -> Image | None:
    named = asked or (None if manifest is None else image_of(manifest))
    found = None if named is None else find_image(named)
    if asked is not None and found is None:
        raise ArtifactRefused(asked, ["is no published djl-inference image from 0.26 on"])
    return found or (newest_image(contract) if contract in DJL else None)


def _show(console: Console, proof: StaticProof) -> None:
    console.line(f"contract   {proof.contract}")
    console.line(f"image      {proof.image or 'none of djl-inference'}")
    console.line(f"rules      {len(proof.checked)}: {', '.join(proof.checked)}")
    decision = proof.decision
    if decision is not None:
        console.line(f"source     {proof.source}")
        degree = decision.tensor_parallel_degree
        console.line(
            f"container  {decision.engine}, {decision.entry_point}, rolling batch "
            f"{decision.rolling_batch}, {'async' if decision.async_mode else 'sync'}, "
            f"tensor parallel {degree or 'by its handler'}, "
            f"{'COMPILES' if decision.compiles else 'compiles nothing'}"
        )
    if not proof.broken:
        console.line("PROVEN: it breaks none of them")
