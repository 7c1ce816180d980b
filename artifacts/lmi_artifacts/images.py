"""Published LMI images: what a reference becomes in a region, and what each image is.

`lmi_images.json` names its sources. An endpoint pulls its image from a registry of AWS's own in
its region, so the account and the host's suffix change with the region and the tag does not.
"""

import functools
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lmi_artifacts.errors import ArtifactRefused

_TABLE: Final = Path(__file__).with_name("lmi_images.json")
_ECR: Final = re.compile(
    r"(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.(?P<suffix>[a-z0-9.-]+)/(?P<rest>\S+)"
)
# Repositories of AWS's deep learning containers, in the accounts of the table.
_AWS_REPOSITORIES: Final = (
    "djl-inference",
    "huggingface-vllm-inference-neuronx",
    "pytorch-inference-neuronx",
    "pytorch-inference-neuron",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One published djl-inference image.

    Attributes:
        tag: such as `0.33.0-tensorrtllm0.21.0-cu128`.
        flavour: `cpu-full`, `deepspeed`, `lmi`, `neuronx` or `tensorrtllm`.
        release: of DJL Serving, `0.33.0`.
        features: what the image puts into SERVING_FEATURES, by which DJL decides.
        source: the branch of djl-serving that it was cut from, or None where none was seen.
    """

    tag: str
    flavour: str
    release: str
    features: tuple[str, ...]
    source: str | None

    @property
    def minor(self) -> int:
        """The release's second number: 33 for 0.33.0."""
        return int(self.release.split(".")[1])


@functools.cache
def _table() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(_TABLE.read_text("utf-8"))
    return loaded


@functools.cache
def images() -> tuple[Image, ...]:
    """Every published image from 0.26 on, oldest release first."""
    return tuple(
        Image(
            tag=row["tag"],
            flavour=row["flavour"],
            release=row["release"],
            features=tuple((row["features"] or "").split(",")) if row["features"] else (),
            source=row["source"],
        )
        for row in _table()["images"]
    )


def find_image(reference: str) -> Image | None:
    """Give the published image that a reference (or a bare tag) names, or None."""
    tag = reference.rpartition(":")[2].partition("@")[0]
    return next((image for image in images() if image.tag == tag), None)


def image_uri(reference: str, region: str) -> str:
    """Say under which URI an endpoint in a region pulls an image.

    Args:
        reference: `djl-inference:TAG`, a bare TAG of it, or a whole URI. One of AWS's accounts is
            changed for the region's own; a private account's is kept.
        region: AWS region of the endpoint.

    Raises:
        ArtifactRefused: an endpoint there cannot pull it; says why.
    """
    found = _ECR.fullmatch(reference)
    accounts: dict[str, str] = _table()["accounts"]
    if found is not None and found["account"] not in accounts.values():
        if found["region"] != region:
            why = f"it is in {found['region']}; an endpoint in {region} pulls from its own region"
            raise ArtifactRefused(reference, [f"{why}: replicate it, then say --image"])
        return reference
    rest = found["rest"] if found is not None else reference
    if found is None and find_image(reference) is not None and "/" not in reference:
        rest = f"djl-inference:{reference.rpartition(':')[2]}"
    if rest.partition(":")[0].partition("@")[0] not in _AWS_REPOSITORIES:
        why = "SageMaker pulls from a private ECR registry only: copy it to yours, then say --image"
        raise ArtifactRefused(reference, [why])
    account = accounts.get(region)
    if account is None:
        near = ", ".join(name for name in accounts if name[:3] == region[:3]) or "none near"
        why = f"no account of AWS's images is known in the region {region}; known: {near}"
        raise ArtifactRefused(reference, [why])
    return f"{account}.dkr.ecr.{region}.{dns_suffix(region)}/{rest}"


def dns_suffix(region: str) -> str:
    """The last part of every host name of AWS's in a region."""
    suffixes: dict[str, str] = _table()["suffixes"]
    return next(
        (suffix for start, suffix in suffixes.items() if region.startswith(start)), "amazonaws.com"
    )
