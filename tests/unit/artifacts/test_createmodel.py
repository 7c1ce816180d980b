"""CreateModel requests, held against botocore's own model of SageMaker."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import get_args

import botocore.session
import pytest
from botocore.validate import ParamValidator

from lmi_artifacts.createmodel import create_model
from lmi_artifacts.errors import ArtifactRefused
from lmi_artifacts.manifest import Manifest
from lmi_artifacts.reference import ArtifactRef
from lmi_artifacts.registry import Layout

ROLE = "arn:aws:iam::123456789012:role/sagemaker"
SERVICE = botocore.session.get_session().get_service_model("sagemaker")


def _valid(operation: str, request: object) -> str:
    shape = SERVICE.operation_model(operation).input_shape
    return str(ParamValidator().validate(request, shape).generate_report())


@pytest.mark.parametrize("layout", get_args(Layout))
@pytest.mark.parametrize("gigabytes", [0, 20, 70, 700])
def test_requests_are_valid(manifest: Manifest, layout: Layout, gigabytes: int) -> None:
    files = (replace(manifest.files[0], size=gigabytes * 10**9 + 1), *manifest.files[1:])
    large = replace(manifest, files=files, name="Llama-2.70b_chat" * 6)
    ref = ArtifactRef(name=large.name, digest=large.digest)
    where = "s3://bucket/r/tree/" if layout == "prefix" else "s3://bucket/r/model.tar.gz"
    made = create_model(
        ref, large, where, layout, role=ROLE, instance_type="ml.inf2.48xlarge", image="123.dkr/x:1"
    )
    for operation, request in made.items():
        assert not _valid(operation, request), operation
    model, config = made["CreateModel"], made["CreateEndpointConfig"]
    assert isinstance(model, dict)
    assert isinstance(config, dict)
    assert len(str(model["ModelName"])) <= 63
    source = model["PrimaryContainer"]["ModelDataSource"]["S3DataSource"]  # type: ignore[index, call-overload]
    assert source["S3Uri"] == where  # type: ignore[index, call-overload]
    (variant,) = config["ProductionVariants"]  # type: ignore[misc]
    assert 60 <= variant["ModelDataDownloadTimeoutInSeconds"] <= 3600  # type: ignore[index, call-overload, operator]
    assert ("VolumeSizeInGB" in variant) == (gigabytes > 30)  # type: ignore[operator]
    assert variant.get("VolumeSizeInGB", 1) <= 512  # type: ignore[union-attr, operator]


def test_the_eula_is_accepted_only_where_the_recipe_did(
    tree: Path, manifest_of: Callable[..., Manifest]
) -> None:
    manifest = manifest_of(tree, recipe={"model": {"id": "m", "accept_license": "llama2"}})
    ref = ArtifactRef(name=manifest.name, digest=manifest.digest)
    made = create_model(
        ref, manifest, "s3://b/p/", "prefix", role=ROLE, instance_type="ml.g5.xlarge", image="x"
    )
    assert "AcceptEula" in str(made)
    assert not _valid("CreateModel", made["CreateModel"])


def test_what_sagemaker_cannot_read_is_refused(manifest: Manifest) -> None:
    ref = ArtifactRef(name=manifest.name, digest=manifest.digest)
    for where, image, why in (("/folder", "x", "reads from S3"), ("s3://b/p/", None, "--image")):
        with pytest.raises(ArtifactRefused, match=why):
            create_model(
                ref, manifest, where, "prefix", role=ROLE, instance_type="ml.g5.xlarge", image=image
            )
