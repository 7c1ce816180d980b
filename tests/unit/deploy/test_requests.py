"""Every request of a deployment is one that botocore's own model of SageMaker accepts."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import botocore.session
import pytest
from botocore.validate import ParamValidator

from lmi_artifacts.errors import ArtifactRefused
from lmi_artifacts.images import _table, dns_suffix, find_image, image_uri, images
from lmi_artifacts.manifest import Manifest
from lmi_artifacts.reference import ArtifactRef
from lmi_compile.deploy.requests import Components, Deployment, Wanted, plan_deployment

ROLE = "arn:aws:iam::123456789012:role/sagemaker"
SESSION = botocore.session.get_session()
SERVICE = SESSION.get_service_model("sagemaker")
PLACE = "s3://bucket/registry/tree/"


def wanted(**changes: Any) -> Wanted:
    fields: dict[str, Any] = {
        "region": "eu-central-1",
        "role": ROLE,
        "instance_type": "ml.g5.12xlarge",
        "environment": {},
    }
    return Wanted(**{**fields, **changes})


def planned(manifest: Manifest, **changes: Any) -> Deployment:
    ref = ArtifactRef(name=manifest.name, digest=manifest.digest)
    return plan_deployment(ref, manifest, PLACE, wanted(**changes))


def requests(deployment: Deployment) -> dict[str, Any]:
    both = [*deployment.prepare, deployment.create, deployment.update]
    both += [one for one in (deployment.component, deployment.component_update) if one]
    return dict(both)


@pytest.mark.parametrize("instances", [1, 2, 7])
@pytest.mark.parametrize("components", [None, Components(copies=2)])
@pytest.mark.parametrize("alarms", [(), ("latency", "errors")])
@pytest.mark.parametrize("gigabytes", [0, 700])
def test_every_request_is_valid(
    manifest: Manifest,
    instances: int,
    components: Components | None,
    alarms: tuple[str, ...],
    gigabytes: int,
) -> None:
    files = (replace(manifest.files[0], size=gigabytes * 10**9 + 1), *manifest.files[1:])
    large = replace(manifest, files=files, name="Llama-2.70b_chat" * 6)
    made = planned(large, instances=instances, components=components, alarms=alarms)
    for operation, body in requests(made).items():
        shape = SERVICE.operation_model(operation).input_shape
        report = ParamValidator().validate(body, shape)
        assert not report.has_errors(), (operation, report.generate_report())
        for name, value in body.items():
            assert not name.endswith("Name") or len(str(value)) <= 63, name


def test_the_image_is_the_regions_own(manifest: Manifest) -> None:
    for region, start in (
        ("eu-central-1", "763104351884.dkr.ecr.eu-central-1.amazonaws.com/djl-inference:0.33.0-"),
        ("cn-north-1", "727897471807.dkr.ecr.cn-north-1.amazonaws.com.cn/djl-inference:0.33.0-"),
    ):
        container = requests(planned(manifest, region=region))["CreateModel"]["PrimaryContainer"]
        assert container["Image"].startswith(start)


def test_dns_suffixes_are_botocores_own() -> None:
    partitions = SESSION.get_data("endpoints")["partitions"]
    suffixes = {
        region: partition["dnsSuffix"]
        for partition in partitions
        for region in partition["regions"]
    }
    known = [region for region in _table()["accounts"] if region in suffixes]
    assert len(known) > 30
    assert [dns_suffix(region) for region in known] == [suffixes[region] for region in known]


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("public.ecr.aws/neuron/pytorch-inference-neuron:1.13.1", "private ECR"),
        ("123456789012.dkr.ecr.us-east-1.amazonaws.com/own:1", "pulls from its own region"),
        ("lmi-compile/aoti:1", "private ECR"),
    ],
)
def test_an_image_that_cannot_be_pulled_is_refused(reference: str, says: str) -> None:
    with pytest.raises(ArtifactRefused, match=says):
        image_uri(reference, "eu-central-1")


def test_a_region_without_images_names_the_near_ones() -> None:
    with pytest.raises(ArtifactRefused, match="eu-central-1"):
        image_uri("djl-inference:0.36.0-cpu-full", "eu-nowhere-1")


def test_a_private_image_of_the_region_stays() -> None:
    own = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/own@sha256:" + "a" * 64
    assert image_uri(own, "eu-central-1") == own
    assert image_uri("0.36.0-cpu-full", "us-east-1").endswith("/djl-inference:0.36.0-cpu-full")


def test_every_published_image_is_known_by_its_tag() -> None:
    assert {image.minor for image in images()} == set(range(26, 37))
    for image in images():
        assert find_image(f"djl-inference:{image.tag}") == image
        assert (image.flavour == "tensorrtllm") == (image.features == ("trtllm",))


def test_one_instance_is_replaced_and_more_are_rolled(manifest: Manifest) -> None:
    alone = requests(planned(manifest, alarms=("errors",)))["UpdateEndpoint"]["DeploymentConfig"]
    fleet = requests(planned(manifest, instances=4))["UpdateEndpoint"]["DeploymentConfig"]
    assert set(alone) == {"BlueGreenUpdatePolicy", "AutoRollbackConfiguration"}
    assert set(fleet) == {"RollingUpdatePolicy"}


def test_components_carry_the_model_its_times_and_its_devices(manifest: Manifest) -> None:
    made = requests(planned(manifest, components=Components(copies=2), instances=3))
    (variant,) = made["CreateEndpointConfig"]["ProductionVariants"]
    assert "ModelName" not in variant
    assert "ContainerStartupHealthCheckTimeoutInSeconds" not in variant
    body = made["CreateInferenceComponent"]
    assert body["RuntimeConfig"] == {"CopyCount": 6}
    assert body["Specification"]["ModelName"] == made["CreateModel"]["ModelName"]
    resources = body["Specification"]["ComputeResourceRequirements"]
    assert resources["NumberOfAcceleratorDevicesRequired"] == 4
    assert resources["MinMemoryRequiredInMb"] >= 1024


def test_names_follow_what_they_name(manifest: Manifest) -> None:
    one, same = planned(manifest), planned(manifest)
    other = planned(manifest, environment={"A": "b"})
    assert one == same
    names = {
        requests(each)[name][f"{name[6:]}Name"]
        for each in (one, other)
        for name in ("CreateModel", "CreateEndpointConfig")
    }
    assert len(names) == 4


def test_the_health_check_waits_by_size_by_proof_or_as_told(manifest: Manifest) -> None:
    def seconds(**changes: Any) -> int:
        (variant,) = requests(planned(manifest, **changes))["CreateEndpointConfig"][
            "ProductionVariants"
        ]
        return int(variant["ContainerStartupHealthCheckTimeoutInSeconds"])

    assert seconds() == 600
    assert seconds(ready_seconds=100.5) == 1005
    assert seconds(ready_seconds=9999.0) == 3600
    assert seconds(ready_seconds=100.5, startup_seconds=90) == 90


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"A": "b" * 1025}, "1024 characters"),
        ({f"A{n}": "b" for n in range(101)}, "102 entries"),
        ({f"A{n}": "b" * 1000 for n in range(40)}, "bytes together"),
    ],
)
def test_an_environment_beyond_the_limits_is_refused(
    manifest: Manifest, environment: dict[str, str], says: str
) -> None:
    with pytest.raises(ArtifactRefused, match=says):
        planned(manifest, environment=environment)


def test_an_image_that_nobody_built_says_what_to_build(
    make_manifest: Callable[..., Manifest],
) -> None:
    image = {"reference": "own:1", "built": False, "dockerfile": "serving.Dockerfile"}
    made = make_manifest(serving={"container": {"images": [image]}, "hardware": {}})
    with pytest.raises(ArtifactRefused, match=r"serving\.Dockerfile.*--image"):
        planned(made)
    with pytest.raises(ArtifactRefused, match="names no image"):
        planned(make_manifest(serving={"hardware": {}}))
