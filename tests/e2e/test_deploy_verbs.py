"""An artifact in S3 goes behind an endpoint of moto's SageMaker, and to a plain Docker host."""

import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
import yaml
from lmi import Lmi
from s3servers import KEY, SECRET, Bucket, Server, moto
from streaming import streaming

ROLE = "arn:aws:iam::123456789012:role/sagemaker"
INSTANCE = ("--instance-type", "ml.c5.4xlarge", "--region", "us-east-1", "--role", ROLE)
IMAGE = ("--image", "0.36.0-cpu-full")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with moto() as running:
        yield running


@pytest.fixture
def aws(server: Server, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
    return boto3.client("sagemaker", region_name="us-east-1")


def test_the_way_to_an_endpoint(after_null: Lmi, server: Server, aws: Any) -> None:
    lmi = after_null
    at = ("--registry", Bucket(server).url)
    built = lmi("null-demo", "--json", *at).json()
    demands = () if built["proof"] == "PROVEN" else ("--require", "verified")
    wanted = ("deploy", "null-demo", *INSTANCE, *IMAGE, *demands, *at)
    shown = lmi(*wanted, "--dry-run")
    assert shown.code == 0, shown.err
    operations = [one["operation"] for one in shown.json()["requests"]]
    assert operations == ["CreateModel", "CreateEndpointConfig", "CreateEndpoint"]
    assert aws.list_models()["Models"] == []

    done = lmi(*wanted, "--json", "--poll-seconds", "0.1", "--endpoint-name", "chat")
    assert done.code == 0, done.err
    assert done.json()["status"] == "InService"
    described = aws.describe_endpoint(EndpointName="chat")
    config = aws.describe_endpoint_config(EndpointConfigName=described["EndpointConfigName"])
    (variant,) = config["ProductionVariants"]
    model = aws.describe_model(ModelName=variant["ModelName"])
    source = model["PrimaryContainer"]["ModelDataSource"]["S3DataSource"]
    assert source["CompressionType"] == "None"
    assert source["S3Uri"].endswith("/")
    assert variant["InstanceType"] == "ml.c5.4xlarge"

    wrong = lmi(*wanted, "--instance-type", "ml.p9.xlarge")
    assert wrong.code == 2
    assert "is no machine that is known here" in wrong.err
    assert lmi("revoke", "null-demo", "--why", "wrong weights", *at).code == 0
    for refused in (lmi(*wanted), lmi("invoke", "null-demo", "a", *at)):
        assert refused.code == 10
        assert "wrong weights" in refused.err


def test_a_folder_is_nothing_that_sagemaker_reads(after_null: Lmi) -> None:
    lmi = after_null
    built = lmi("null-demo", "--json").json()
    demands = () if built["proof"] == "PROVEN" else ("--require", "verified")
    ended = lmi("deploy", "null-demo", *INSTANCE, *IMAGE, *demands)
    assert ended.code == 10
    assert "SageMaker reads from S3" in ended.err
    assert lmi("deploy", "null-demo").code == 2
    told = lmi("export", "docker", "null-demo", "--image", "own:1", "--compose", "c.yaml", "--json")
    assert told.code == 0, told.err
    line, compose = told.json()["run"], yaml.safe_load((lmi.home / "c.yaml").read_text())
    (service,) = compose["services"].values()
    assert service["image"] == "own:1"
    assert f"{service['volumes'][0]['source']}:/opt/ml/model:ro" in line
    assert line.endswith("own:1 serve")


def test_a_url_is_invoked(lmi: Lmi) -> None:
    with streaming() as url:
        (lmi.home / "prompts.txt").write_text("one\ntwo\n")
        said = lmi("invoke", f"{url}/invocations", "a", "--max-new-tokens", "3")
        assert said.out == " t0 t1 t2\n"
        many = lmi("invoke", f"{url}/invocations", "--file", "prompts.txt", "--json",
                   "--concurrency", "2", "--parameters", '{"max_new_tokens": 2}')  # fmt: skip
        answers = [json.loads(line) for line in many.out.splitlines()]
    assert [one["prompt"] for one in answers] == ["one", "two"]
    assert {one["generated_text"] for one in answers} == {" t0 t1"}
    gone = lmi("invoke", f"{url}/invocations", "a", "--retries", "0")
    assert gone.code == 75
    assert lmi("invoke", f"{url}/x", "a", "--parameters", "[1]").code == 2
