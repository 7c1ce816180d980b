"""SageMaker jobs: requests by botocore's own model, and the whole way on loopback servers."""

import json
from pathlib import Path
from typing import Any

import pytest
from lmi import Lmi
from sagemaker_jobs import problems

from lmi_compile.errors import Unsupported
from lmi_compile.executors.sagemaker_requests import job_name, kind_for

SIMULATORS = Path(__file__).parents[2] / "simulators"
ROLE = "arn:aws:iam::111122223333:role/builder"
ECR = "111122223333.dkr.ecr.us-east-1.amazonaws.com/lmi:1"
FLAGS = ["--executor", "sagemaker", "--sagemaker-role", ROLE,
         "--sagemaker-prefix", "s3://builds/lmi", "--image", ECR]  # fmt: skip


def _requests(lmi: Lmi, recipe: str, *more: str) -> list[Any]:
    ended = lmi(recipe, *FLAGS, "--dry-run", *more)
    assert ended.code == 0, ended.err
    return [json.loads(line) for line in ended.out.splitlines()]


@pytest.fixture
def lmi(tmp_path: Path) -> Lmi:
    return Lmi(home=tmp_path)


@pytest.mark.parametrize(
    ("recipe", "operation", "instance"),
    [
        ("llama-2-7b-float16-tp1-g5.2xlarge", "CreateProcessingJob", "ml.g5.2xlarge"),
        ("llama-2-70b-smoothquant-tp8-p4d.24xlarge", "CreateTrainingJob", "ml.p4d.24xlarge"),
    ],
)
def test_a_dry_run_prints_requests_that_the_service_model_takes(
    recipe: str, operation: str, instance: str, lmi: Lmi
) -> None:
    requests = _requests(lmi, recipe)
    assert requests
    for request in requests:
        assert problems(operation, request) == []
        assert instance in json.dumps(request)
        assert ECR in json.dumps(request)
        assert '"EnableNetworkIsolation": true' in json.dumps(request)
    assert not (lmi.home / "cache" / "steps").exists()


def test_a_damaged_request_is_noticed(lmi: Lmi) -> None:
    request = _requests(lmi, "llama-2-7b-float16-tp1-g5.2xlarge")[0]
    request["ProcessingResources"]["ClusterConfig"]["InstanceType"] = "ml.inf2.xlarge"
    assert "none of the list" in problems("CreateProcessingJob", request)[0]


def test_an_instance_without_jobs_is_not_possible() -> None:
    with pytest.raises(Unsupported, match=r"neither .* on ml\.inf2\.xlarge"):
        kind_for("ml.inf2.xlarge", ["ml.g5.xlarge"], ["ml.p4d.24xlarge"])


def test_a_name_is_the_keys_and_fits() -> None:
    name = job_name("a_very-long step's name that goes on and on", "0123456789abcdef" * 4, 12)
    assert name.endswith("-0123456789abcdef0123-12")
    assert len(name) <= 63


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        (["--executor", "sagemaker"], 8, "--sagemaker-role ARN"),
        ([*FLAGS[:-2]], 8, "images of a private ECR repository only"),
        (["--executor", "local"], 8, "--dry-run prints the requests of SageMaker jobs"),
    ],
)
def test_what_is_missing_is_said(flags: list[str], code: int, words: str, lmi: Lmi) -> None:
    recipe = "llama-3.1-8b-trn2-tp8" if words.startswith("images") else None
    ended = lmi(recipe or "llama-2-7b-float16-tp1-g5.2xlarge", *flags, "--dry-run")
    assert ended.code == code, ended.err
    assert words in ended.err
