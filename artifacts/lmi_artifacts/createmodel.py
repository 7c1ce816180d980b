"""SageMaker's CreateModel and CreateEndpointConfig requests for an artifact in S3.

Shapes and limits are those of botocore's service model of SageMaker (1.44): names, the exclusive
ModelDataUrl and ModelDataSource, the trailing slash of a prefix, 1-512 GB volumes, 60-3600 s.
"""

from typing import Final

from lmi_artifacts.digest import JSONValue
from lmi_artifacts.errors import ArtifactRefused
from lmi_artifacts.manifest import Manifest
from lmi_artifacts.reference import ArtifactRef
from lmi_artifacts.registry import Layout

_GIB: Final = 2**30
_LOCAL_DISK = ("ml.g4dn", "ml.g5", "ml.g6", "ml.p4", "ml.p5", "ml.trn1")
_LARGE_VOLUME = 30  # GB of model above which AWS advises a larger volume
_NAME_LETTERS = 63


def _name(ref: ArtifactRef) -> str:
    plain = "".join(letter if letter.isalnum() else "-" for letter in ref.name).strip("-")
    return f"{plain[: _NAME_LETTERS - 13].rstrip('-')}-{ref.digest.hex[:12]}"


def create_model(
    ref: ArtifactRef,
    manifest: Manifest,
    location: str,
    layout: Layout,
    *,
    role: str,
    instance_type: str,
    image: str | None = None,
) -> dict[str, JSONValue]:
    """Give `{"CreateModel": ..., "CreateEndpointConfig": ...}`, ready for boto3.

    Args:
        ref: the artifact.
        manifest: its manifest.
        location: where the layout is stored, an s3:// URL.
        layout: uncompressed prefix, or `model.tar.gz`.
        role: ARN of the execution role.
        instance_type: what the endpoint runs on.
        image: the container; None takes the first one that the toolchain names.

    Raises:
        ArtifactRefused: it is not in S3, or nothing names a container.
    """
    if not location.startswith("s3://"):
        raise ArtifactRefused(str(ref), [f"SageMaker reads from S3; this one is at {location}"])
    image = image or image_of(manifest)
    if image is None:
        raise ArtifactRefused(str(ref), ["its toolchain names no published image; say --image"])
    prefix = layout == "prefix"
    source: dict[str, JSONValue] = {
        "S3Uri": location.rstrip("/") + "/" if prefix else location,
        "S3DataType": "S3Prefix" if prefix else "S3Object",
        "CompressionType": "None" if prefix else "Gzip",
    }
    licence = manifest.recipe.get("model")
    if isinstance(licence, dict) and licence.get("accept_license"):
        source["ModelAccessConfig"] = {"AcceptEula": True}
    name = _name(ref)
    variant: dict[str, JSONValue] = {
        "VariantName": "AllTraffic",
        "ModelName": name,
        "InstanceType": instance_type,
        "InitialInstanceCount": 1,
        "ModelDataDownloadTimeoutInSeconds": _seconds(manifest.size),
        "ContainerStartupHealthCheckTimeoutInSeconds": _seconds(manifest.size),
    }
    size = manifest.size / 1e9
    if size > _LARGE_VOLUME and not instance_type.startswith(_LOCAL_DISK):
        variant["VolumeSizeInGB"] = min(512, int(2.5 * manifest.size / _GIB) + 1)
    return {
        "CreateModel": {
            "ModelName": name,
            "ExecutionRoleArn": role,
            "PrimaryContainer": {
                "Image": image,
                "ModelDataSource": {"S3DataSource": source},
                "Environment": {"LMI_ARTIFACT": str(ref)[:1024]},
            },
        },
        "CreateEndpointConfig": {"EndpointConfigName": name, "ProductionVariants": [variant]},
    }


def _seconds(size: int) -> int:
    """Time to fetch or load: 100 MB/s at worst, within SageMaker's 60 to 3600."""
    return max(600, min(3600, 300 + size // 100_000_000))


def image_of(manifest: Manifest) -> str | None:
    """The first image that an artifact's toolchain names, or None."""
    match manifest.serving.get("container"):
        case {"images": [{"reference": str(reference)}, *_]}:
            return reference
        case _:
            return None
