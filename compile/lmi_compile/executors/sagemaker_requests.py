"""A step as a SageMaker job: the request, and where its files lie inside. Pure.

Processing jobs have no P4 and no Neuron instances, training jobs have; neither has Inferentia. Both
limit each word of a command line to 256 characters, so the command itself travels in a file
(`sagemaker_entry`). Contract: botocore's service model of SageMaker, and the container contracts
of the two kinds of job in the SageMaker developer guide.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lmi_artifacts.digest import JSONValue
from lmi_compile.errors import EnvironmentFault, Unsupported
from lmi_compile.executors.request import command, environment
from lmi_compile.step import Step
from lmi_compile.workspace import Staging

Kind = Literal["processing", "training"]
ENTRY = "lmi"  # the input that holds the entry and its request
_ML = Path("/opt/ml")
_NAME = re.compile(r"[^a-zA-Z0-9]+")
_REGISTRY = re.compile(r"\d{12}\.dkr\.ecr\.[a-z0-9-]+\.amazonaws\.com(\.cn)?/.+")
_NAME_CHARACTERS = 63
_KEY_CHARACTERS = 20
_DAY = 86400
_GIB = 1 << 30
_VOLUME_GIB = 100  # at least; the image is not on it
_COPIES = 4  # of what a step reads: inputs, work in progress, outputs


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a job keeps its files, inside the container.

    Attributes:
        inputs: each input is a folder of its name in it.
        out: uploaded when the job ends.
    """

    inputs: Path
    out: Path


PLACES: Mapping[Kind, Place] = {
    "processing": Place(inputs=_ML / "processing/input", out=_ML / "processing/output"),
    "training": Place(inputs=_ML / "input/data", out=_ML / "model"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What a job needs to know beside its step.

    Attributes:
        role: ARN of the role that it runs as.
        prefix: `s3://bucket/prefix` of its inputs and outputs.
        instance_type: of the recipe's target.
        kind: which jobs have such instances.
        image: a private ECR image that replaces the toolchain's reference; None keeps it.
    """

    role: str
    prefix: str
    instance_type: str
    kind: Kind
    image: str | None = None


def kind_for(instance_type: str, processing: list[str], training: list[str]) -> Kind:
    """Which jobs have `instance_type`, by SageMaker's own lists.

    Raises:
        Unsupported: neither has.
    """
    if instance_type in processing:
        return "processing"
    if instance_type in training:
        return "training"
    what = f"SageMaker has neither processing nor training jobs on {instance_type}"
    raise Unsupported(what, fix="build on such an EC2 instance, with --executor container")


def job_name(step: str, key: str, number: int) -> str:
    """The name of the job that makes `key`; a job that failed leaves its number used."""
    tail = f"-{key[:_KEY_CHARACTERS]}-{number}"
    head = _NAME.sub("-", f"lmi-{step}")[: _NAME_CHARACTERS - len(tail)].strip("-")
    return head + tail


def request_of(
    step: Step, key: str, account: Account, inputs: Mapping[str, str], *, number: int, size: int
) -> dict[str, JSONValue]:
    """The request that starts `step`.

    Args:
        step: a foreign tool's step.
        key: its key.
        account: the job's surroundings.
        inputs: the S3 prefix of each input, the entry's among them.
        number: of the try.
        size: bytes of its inputs.

    Raises:
        EnvironmentFault: SageMaker cannot take its image.
    """
    name, image = job_name(step.name, key, number), _image(step, account)
    place = PLACES[account.kind]
    entry = ["python3", str(place.inputs / ENTRY / "sagemaker_entry.py")]
    machine: dict[str, JSONValue] = {
        "InstanceType": account.instance_type,
        "InstanceCount": 1,
        "VolumeSizeInGB": max(_VOLUME_GIB, _COPIES * size // _GIB),
    }
    seconds = int(step.resources.timeout_seconds or _DAY)
    out = output_of(account.prefix, key, number)
    tags: list[JSONValue] = [{"Key": "lmi-compile-key", "Value": key}]
    common: dict[str, JSONValue] = {
        "RoleArn": account.role,
        "StoppingCondition": {"MaxRuntimeInSeconds": seconds},
        "Tags": tags,
    }
    if account.kind == "processing":
        return {
            "ProcessingJobName": name,
            "AppSpecification": {"ImageUri": image, "ContainerEntrypoint": [*entry]},
            "ProcessingInputs": [_processing_input(*item) for item in inputs.items()],
            "ProcessingOutputConfig": {"Outputs": [_processing_output(out)]},
            "ProcessingResources": {"ClusterConfig": machine},
            "NetworkConfig": {"EnableNetworkIsolation": not step.network},
            **common,
        }
    return {
        "TrainingJobName": name,
        "AlgorithmSpecification": {
            "TrainingImage": image,
            "TrainingInputMode": "File",
            "ContainerEntrypoint": [*entry],
        },
        "InputDataConfig": [_channel(*item) for item in inputs.items()],
        "OutputDataConfig": {"S3OutputPath": out, "CompressionType": "NONE"},
        "ResourceConfig": machine,
        "EnableNetworkIsolation": not step.network,
        **common,
    }


def entry_request(step: Step, kind: Kind) -> dict[str, JSONValue]:
    """What the entry reads: the command line and environment, by the container's own paths."""
    place = PLACES[kind]
    inside = Staging(root=Path("/"), out=place.out, log=Path("/dev/null"))
    inputs = {need: place.inputs / need for need in step.needs}
    argv: list[JSONValue] = [*command(step, inputs, inside)]
    env = environment(step, inputs, inside, threads=step.resources.cores or 0)
    if not step.resources.cores:
        del env["OMP_NUM_THREADS"]  # the machine is the job's alone
    return {
        "argv": argv,
        "env": dict(env),
        "out": str(inside.out),
        "tmp": str(inside.tmp),
        "output": str(_ML / "output"),
    }


def output_of(prefix: str, key: str, number: int) -> str:
    """Where in S3 a job leaves what it made."""
    return f"{prefix.rstrip('/')}/out/{key}/{number}"


def _image(step: Step, account: Account) -> str:
    own = step.image
    reference = account.image or (own.reference if own else "")
    if own is not None and own.digest and "@" not in reference:
        reference = f"{reference.rpartition(':')[0] or reference}@{own.digest}"
    if not _REGISTRY.fullmatch(reference):
        what = f"SageMaker takes images of a private ECR repository only, not {reference}"
        raise EnvironmentFault(what, fix="mirror it into one, and name that with --image")
    return reference


def _processing_input(name: str, url: str) -> JSONValue:
    source: dict[str, JSONValue] = {
        "S3Uri": url,
        "LocalPath": str(PLACES["processing"].inputs / name),
        "S3DataType": "S3Prefix",
        "S3InputMode": "File",
    }
    return {"InputName": name, "S3Input": source}


def _processing_output(url: str) -> JSONValue:
    target: dict[str, JSONValue] = {
        "S3Uri": url,
        "LocalPath": str(PLACES["processing"].out),
        "S3UploadMode": "EndOfJob",
    }
    return {"OutputName": "out", "S3Output": target}


def _channel(name: str, url: str) -> JSONValue:
    source: dict[str, JSONValue] = {
        "S3DataType": "S3Prefix",
        "S3Uri": url,
        "S3DataDistributionType": "FullyReplicated",
    }
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}}
