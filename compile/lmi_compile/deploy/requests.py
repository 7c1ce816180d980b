"""Every request of a deployment, computed before the first is sent; pure.

Shapes and limits are those of botocore's service model of SageMaker (1.44). Names carry a digest
of what they name, so that sending a request twice changes nothing and every change is a new name.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from lmi_artifacts.createmodel import create_model
from lmi_artifacts.digest import JSONValue, canonical_json, digest_bytes
from lmi_artifacts.errors import ArtifactRefused
from lmi_artifacts.images import image_uri
from lmi_artifacts.manifest import Manifest
from lmi_artifacts.reference import ArtifactRef
from lmi_artifacts.registry import Layout
from lmi_compile.deploy.needs import needs_of

Request = tuple[str, Mapping[str, JSONValue]]
VARIANT: Final = "AllTraffic"
_NAME_LETTERS: Final = 63
_TIMES: Final = ("ModelDataDownloadTimeoutInSeconds", "ContainerStartupHealthCheckTimeoutInSeconds")
_SECONDS: Final = (60, 3600)
# A start-up may take so many times what the no-JIT proof measured on the host that built it.
_PROOF_MARGIN: Final = 10
_ENVIRONMENT_ENTRIES, _ENVIRONMENT_LETTERS, _ENVIRONMENT_BYTES = 100, 1024, 32 * 1024
# A rolling batch is 5 to 50 % of a fleet, so that one instance alone cannot be rolled:
# SageMaker developer guide, "Use rolling deployments".
_ROLLING_FLEET: Final = 2
_BAKE_SECONDS: Final = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Components:
    """Inference components: copies of the model that share the endpoint's instances.

    Attributes:
        copies: on each instance.
        accelerators: of one copy; None takes what the artifact needs.
        memory_mib: of one copy; None takes the files' size and a half, and 1 GiB.
    """

    copies: int = 1
    accelerators: int | None = None
    memory_mib: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What an endpoint shall be.

    Attributes:
        region: AWS region.
        role: ARN of the execution role.
        instance_type: such as `ml.g5.12xlarge`.
        instances: how many.
        endpoint: its name; None takes the artifact's.
        layout: which of the artifact's layouts SageMaker reads.
        image: reference of the container; None takes the first that the toolchain names.
        environment: further variables of the container.
        startup_seconds: for the container's health check; None is computed.
        ready_seconds: what the no-JIT proof measured, or None.
        components: None for one model on the whole instance.
        alarms: CloudWatch alarms that roll an update back.
    """

    region: str
    role: str
    instance_type: str
    instances: int = 1
    endpoint: str | None = None
    layout: Layout = "prefix"
    image: str | None = None
    environment: Mapping[str, str]
    startup_seconds: int | None = None
    ready_seconds: float | None = None
    components: Components | None = None
    alarms: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """The requests of one deployment.

    Attributes:
        endpoint: the endpoint's name.
        prepare: what must exist first: the model and the endpoint's configuration.
        create: where there is no such endpoint yet.
        update: where there is one.
        component: CreateInferenceComponent, or None.
        component_update: UpdateInferenceComponent for one that exists, or None.
    """

    endpoint: str
    prepare: tuple[Request, ...]
    create: Request
    update: Request
    component: Request | None = None
    component_update: Request | None = None

    @property
    def config_name(self) -> str:
        """The endpoint configuration's name."""
        return str(self.create[1]["EndpointConfigName"])

    def to_json(self) -> dict[str, JSONValue]:
        """The requests as `--dry-run` prints them."""
        first = [*self.prepare, self.create, *([self.component] if self.component else [])]
        again = [self.update, *([self.component_update] if self.component_update else [])]
        return {
            "endpoint": self.endpoint,
            "requests": [{"operation": name, "parameters": dict(body)} for name, body in first],
            "if_the_endpoint_exists": [
                {"operation": name, "parameters": dict(body)} for name, body in again
            ],
        }


def plan_deployment(
    ref: ArtifactRef, manifest: Manifest, location: str, wanted: Wanted
) -> Deployment:
    """Compute every request.

    Args:
        ref: the artifact.
        manifest: its manifest.
        location: where the layout is stored, an s3:// URL.
        wanted: what the endpoint shall be.

    Raises:
        ArtifactRefused: it is not in S3, no container is named, or a limit is broken.
    """
    uri = image_uri(wanted.image or _image(ref, manifest), wanted.region)
    made: Any = create_model(
        ref,
        manifest,
        location,
        wanted.layout,
        role=wanted.role,
        instance_type=wanted.instance_type,
        image=uri,
    )
    model, config = made["CreateModel"], made["CreateEndpointConfig"]
    stem = str(model["ModelName"])
    environment = {**model["PrimaryContainer"]["Environment"], **wanted.environment}
    _check_environment(environment)
    model["PrimaryContainer"]["Environment"] = environment
    model["ModelName"] = _named(stem, model)
    (variant,) = config["ProductionVariants"]
    variant |= {"ModelName": model["ModelName"], "InitialInstanceCount": wanted.instances}
    variant[_TIMES[1]] = _startup_seconds(int(variant[_TIMES[1]]), wanted)
    endpoint = wanted.endpoint or stem
    component = component_update = None
    if wanted.components is not None:
        component, component_update = _component(endpoint, manifest, wanted, variant)
        config["ExecutionRoleArn"] = wanted.role
    config["EndpointConfigName"] = _named(stem, config)
    both = {"EndpointName": endpoint, "EndpointConfigName": config["EndpointConfigName"]}
    return Deployment(
        endpoint=endpoint,
        prepare=(("CreateModel", model), ("CreateEndpointConfig", config)),
        create=("CreateEndpoint", both),
        update=("UpdateEndpoint", {**both, "DeploymentConfig": _careful(wanted)}),
        component=component,
        component_update=component_update,
    )


def _image(ref: ArtifactRef, manifest: Manifest) -> str:
    match manifest.serving.get("container"):
        case {"images": [{"reference": str(reference), **rest}, *_]}:
            if rest.get("built") is False:
                why = f"nobody has built its container {reference}; build {rest.get('dockerfile')}"
                raise ArtifactRefused(str(ref), [f"{why}, push it to your ECR, and say --image"])
            return reference
        case _:
            raise ArtifactRefused(str(ref), ["its toolchain names no image; say --image"])


def _named(stem: str, body: Mapping[str, JSONValue]) -> str:
    digest = digest_bytes(canonical_json({**body, "name": stem})).hex[:8]
    return f"{stem[: _NAME_LETTERS - 9].rstrip('-')}-{digest}"


def _startup_seconds(by_size: int, wanted: Wanted) -> int:
    low, high = _SECONDS
    if wanted.startup_seconds is not None:
        return wanted.startup_seconds
    measured = math.ceil(_PROOF_MARGIN * (wanted.ready_seconds or 0))
    return max(low, min(high, max(by_size, measured)))


def _check_environment(environment: Mapping[str, str]) -> None:
    problems = [
        f"{name}: a name or value longer than {_ENVIRONMENT_LETTERS} characters"
        for name, value in environment.items()
        if max(len(name), len(value)) > _ENVIRONMENT_LETTERS
    ]
    if len(environment) > _ENVIRONMENT_ENTRIES:
        problems.append(f"{len(environment)} entries are more than {_ENVIRONMENT_ENTRIES}")
    total = sum(len(name.encode()) + len(value.encode()) for name, value in environment.items())
    if total > _ENVIRONMENT_BYTES:
        problems.append(f"{total} bytes together are more than {_ENVIRONMENT_BYTES}")
    if problems:
        raise ArtifactRefused("the container's environment", problems)


def _component(
    endpoint: str, manifest: Manifest, wanted: Wanted, variant: dict[str, JSONValue]
) -> tuple[Request, Request]:
    """Move the model out of the variant into a component, with its own time-outs."""
    components = wanted.components or Components()
    resources: dict[str, JSONValue] = {
        "MinMemoryRequiredInMb": components.memory_mib or int(1.5 * manifest.size / 2**20) + 1024
    }
    accelerators = components.accelerators
    if accelerators is None:
        accelerators = needs_of(manifest).accelerators
    if accelerators:
        resources["NumberOfAcceleratorDevicesRequired"] = accelerators
    specification: dict[str, JSONValue] = {
        "ModelName": variant.pop("ModelName"),
        "StartupParameters": {name: variant.pop(name) for name in _TIMES},
        "ComputeResourceRequirements": resources,
    }
    variant["RoutingConfig"] = {"RoutingStrategy": "LEAST_OUTSTANDING_REQUESTS"}
    name = f"{endpoint[: _NAME_LETTERS - 6].rstrip('-')}-model"
    shared: dict[str, JSONValue] = {
        "InferenceComponentName": name,
        "Specification": specification,
        "RuntimeConfig": {"CopyCount": components.copies * wanted.instances},
    }
    rolling: dict[str, JSONValue] = {
        "RollingUpdatePolicy": {
            "MaximumBatchSize": {"Type": "COPY_COUNT", "Value": 1},
            "WaitIntervalInSeconds": _BAKE_SECONDS,
        }
    }
    if wanted.alarms:
        rolling["AutoRollbackConfiguration"] = _alarms(wanted)
    return (
        (
            "CreateInferenceComponent",
            {**shared, "EndpointName": endpoint, "VariantName": VARIANT},
        ),
        ("UpdateInferenceComponent", {**shared, "DeploymentConfig": rolling}),
    )


def _careful(wanted: Wanted) -> dict[str, JSONValue]:
    """How an endpoint that exists changes over: in batches, and back when an alarm rings."""
    careful: dict[str, JSONValue] = {}
    if wanted.instances >= _ROLLING_FLEET:
        half: dict[str, JSONValue] = {"Type": "CAPACITY_PERCENT", "Value": 50}
        careful["RollingUpdatePolicy"] = {
            "MaximumBatchSize": half,
            "WaitIntervalInSeconds": _BAKE_SECONDS,
            "RollbackMaximumBatchSize": half,
        }
    else:
        careful["BlueGreenUpdatePolicy"] = {
            "TrafficRoutingConfiguration": {
                "Type": "ALL_AT_ONCE",
                "WaitIntervalInSeconds": _BAKE_SECONDS,
            },
            "TerminationWaitInSeconds": _BAKE_SECONDS,
        }
    if wanted.alarms:
        careful["AutoRollbackConfiguration"] = _alarms(wanted)
    return careful


def _alarms(wanted: Wanted) -> dict[str, JSONValue]:
    return {"Alarms": [{"AlarmName": name} for name in wanted.alarms]}
