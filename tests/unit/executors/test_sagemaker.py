"""SageMaker jobs: requests by botocore's own model, and the whole way on loopback servers."""

import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flows import Built, build, install_simulator, path_with, toolchain_with_image
from lmi import Lmi
from s3servers import KEY, SECRET, Server, moto
from sagemaker_jobs import Service, problems, sagemaker

from lmi_compile.errors import Unsupported
from lmi_compile.executors.sagemaker_requests import job_name, kind_for

SIMULATORS = Path(__file__).parents[2] / "simulators"
ROLE = "arn:aws:iam::111122223333:role/builder"
ECR = "111122223333.dkr.ecr.us-east-1.amazonaws.com/lmi:1"
DIGEST = f"sha256:{'a' * 64}"
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


@pytest.fixture(scope="module")
def s3() -> Iterator[Server]:
    with moto() as server:
        server.bucket("builds")
        yield server


@pytest.fixture
def service(s3: Server, tmp_path: Path) -> Iterator[Service]:
    with sagemaker(tmp_path / "jobs", s3.client()) as running:
        yield running


def _engines(built: Built) -> dict[str, str]:
    """The engines by digest; other files of theirs name the paths where they were made."""
    engine = built.files["engine"]
    return {name: digest for name, digest in engine.items() if name.endswith(".engine")}


@pytest.fixture
def recipe(tmp_path: Path, make_tiny_llama: Callable[..., Path]) -> Path:
    source = SIMULATORS / "trtllm" / "toolchains" / "sim-trtllm-lmi-0.33.yaml"
    name = toolchain_with_image(tmp_path / "toolchains", source, ECR, DIGEST)
    make_tiny_llama(tmp_path / "model", vocab_size=300)
    path = tmp_path / "tiny.yaml"
    path.write_text(
        f"apiVersion: lmi-compile/v1\nname: tiny\nmodel: {{id: {tmp_path}/model}}\n"
        f"backend: tensorrt-llm\ntoolchain: {name}\ntarget: {{instance_type: ml.g5.12xlarge}}\n"
        "dtype: float16\ntensor_parallel_degree: 2\n"
        "shapes: {max_batch_size: 2, max_input_len: 32, max_seq_len: 64}\n",
        encoding="utf-8",
    )
    return path


def _env(s3: Server, service: Service) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL_SAGEMAKER": service.url,
        "AWS_ENDPOINT_URL_S3": s3.endpoint,
        "AWS_ENDPOINT_URL_CLOUDWATCH_LOGS": s3.endpoint,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "LMI_SAGEMAKER_POLL_SECONDS": "0.2",
    }


@pytest.mark.slow
def test_jobs_make_what_the_plan_says_and_are_taken_over(
    s3: Server, service: Service, tmp_path: Path, recipe: Path
) -> None:
    tools = install_simulator(
        SIMULATORS / "trtllm" / "trtllm_simulator/install.py",
        tmp_path / "bin",
        tensorrt_llm="0.21.0rc1",
        build_table="0.20.0",
    )
    service.path = str(tools)
    arguments = ["--toolchains", tmp_path / "toolchains", "--until", "package"]
    here = build(tmp_path / "home", recipe, *arguments, PATH=path_with(tools))
    env = _env(s3, service)
    there = build(tmp_path / "home", recipe, *arguments, *FLAGS[:-2], **env)
    assert here.steps == there.steps
    assert _engines(here) == _engines(there) != {}
    in_jobs = {step for step, ran in there.ran.items() if ran["executor"] == "sagemaker"}
    assert in_jobs == {"ground", "engine"}
    assert all(DIGEST in json.dumps(request) for _, request in service.requests)
    asked = len(service.requests)
    again = build(tmp_path / "home", recipe, *arguments, *FLAGS[:-2], **env)
    assert _engines(there) == _engines(again)
    assert len(service.requests) == asked


@pytest.mark.slow
def test_stopping_a_matrix_stops_its_jobs(
    s3: Server, service: Service, tmp_path: Path, recipe: Path
) -> None:
    """A matrix ends what other threads run by `cancel`."""
    tool = tmp_path / "bin" / "python3"
    tool.parent.mkdir()
    tool.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/began\nexec sleep 600\n", encoding="utf-8")
    tool.chmod(0o755)
    service.path = str(tool.parent)
    lmi = Lmi(home=tmp_path)
    flags = ["--toolchains", tmp_path / "toolchains", "--until", "ground", *FLAGS[:-2]]
    process = lmi.start("matrix", recipe, *flags, **_env(s3, service))
    until = time.monotonic() + 300
    while not (tmp_path / "began").exists() or not (tmp_path / "began").read_text():
        assert time.monotonic() < until, "the job did not begin"
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 130, said
    (status,) = (job["ProcessingJobStatus"] for job in service.jobs.values())
    assert status == "Stopped"
    assert "Traceback" not in said
    assert not list((tmp_path / "cache" / "staging").iterdir())
