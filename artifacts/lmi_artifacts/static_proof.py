"""The static proof: a tree against everything its container reads, by named rules."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lmi_artifacts import container, neuron_container
from lmi_artifacts.decisions import Decision
from lmi_artifacts.digest import JSONValue
from lmi_artifacts.images import Image, images
from lmi_artifacts.releases import releases
from lmi_artifacts.static_rules import TRTLLM, Served, rules_of

CONTRACTS: Final = (container.CONTRACT, *neuron_container.RULES, *TRTLLM)


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """One rule that a tree breaks."""

    rule: str
    what: str

    def __str__(self) -> str:
        return f"[{self.rule}] {self.what}"


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticProof:
    """What was checked, and what came of it."""

    contract: str
    image: str | None
    source: str | None
    checked: tuple[str, ...]
    broken: tuple[Broken, ...]
    decision: Decision | None

    def to_json(self) -> dict[str, JSONValue]:
        """Give the proof as a JSON object."""
        return {
            "decision": "REFUTED" if self.broken else "PROVEN",
            "contract": self.contract,
            "image": self.image,
            "source": self.source,
            "checked": list(self.checked),
            "broken": [{"rule": one.rule, "what": one.what} for one in self.broken],
            "container_decides": None if self.decision is None else self.decision.to_json(),
        }


def prove_static(
    tree: Path, contract: str, image: Image | None, accelerators: int = 0
) -> StaticProof:
    """Hold a tree against every rule of its contract and image.

    Args:
        tree: the served tree.
        contract: one of `CONTRACTS`.
        image: that serves it, or None.
        accelerators: GPUs or Neuron cores of the host.

    Raises:
        ValueError: no such contract.
        OSError: the tree cannot be read.
    """
    if contract not in CONTRACTS:
        message = f"no container contract is called {contract}; there are {', '.join(CONTRACTS)}"
        raise ValueError(message)
    served = Served(
        tree=tree,
        contract=contract,
        image=image,
        accelerators=accelerators,
        found=container.served_properties(tree),
    )
    rules = rules_of(contract)
    broken = tuple(
        Broken(rule=name, what=what) for name, rule in rules.items() for what in rule(served)
    )
    release = served.release
    return StaticProof(
        contract=contract,
        image=None if image is None else image.tag,
        source=None if release is None else release.source,
        checked=tuple(rules),
        broken=broken,
        decision=served.decision,
    )


def broken_rules(tree: Path, contract: str) -> tuple[str, ...]:
    """Every rule that a tree breaks in the newest image of its contract, as sentences."""
    return tuple(map(str, prove_static(tree, contract, newest_image(contract)).broken))


def guess_contract(tree: Path) -> str:
    """The contract of a tree that has no manifest, by its files."""
    if any(tree.glob("*/config.pbtxt")):
        return "trtllm-triton"
    if any(tree.glob("rank*.engine")):
        served = container.served_properties(tree)
        return "trtllm-flat" if served else "trtllm-engine"
    if (tree / "compiled").is_dir():
        return "neuron-lmi"
    if (tree / "neuron_config.json").is_file():
        return "neuron-optimum" if (tree / "checkpoint").is_dir() else "neuron-nxdi"
    if (tree / "code" / "inference.py").is_file():
        return "neuron-torchscript"
    return container.CONTRACT


def newest_image(contract: str) -> Image | None:
    """The newest published image for a contract; None where none is djl-inference's."""
    flavours = {
        container.CONTRACT: "cpu-full",
        "neuron-lmi": "neuronx",
        "trtllm-flat": "tensorrtllm",
        "trtllm-triton": "tensorrtllm",
    }
    layout = TRTLLM.get(contract)
    fitting = [
        image
        for image in images()
        if image.flavour == flavours.get(contract)
        and (layout is None or releases()[image.minor].engines == layout)
    ]
    return fitting[-1] if fitting else None
