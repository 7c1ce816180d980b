"""A deployment carried out by an unmodified boto3 client, against a small SageMaker on loopback."""

from collections.abc import Iterator
from typing import Any

import pytest
from sagemaker import Refusal, SageMaker, running

from lmi_artifacts.manifest import Manifest
from lmi_artifacts.reference import ArtifactRef
from lmi_compile.deploy.requests import Components, Deployment, Wanted, plan_deployment
from lmi_compile.deploy.sagemaker import Service, carry_out, connect, instance_types, take_away
from lmi_compile.errors import DeployFailed, EnvironmentFault, Transient

BROKEN = {"SIMULATED_STATUS": "Failed"}


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, SageMaker]]:
    with running() as found:
        yield found


@pytest.fixture
def state(server: tuple[str, SageMaker], monkeypatch: pytest.MonkeyPatch) -> SageMaker:
    for name, value in (
        ("AWS_ENDPOINT_URL", server[0]),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
    ):
        monkeypatch.setenv(name, value)
    server[1].requests.clear()
    server[1].things.clear()
    return server[1]


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def service(state: SageMaker, said: list[str]) -> Service:
    assert state.requests == []
    return connect("us-east-1", said.append, poll_seconds=0.01, wait_seconds=120)


def planned(manifest: Manifest, **changes: Any) -> Deployment:
    fields: dict[str, Any] = {
        "region": "us-east-1",
        "role": "arn:aws:iam::123456789012:role/sagemaker",
        "instance_type": "ml.g5.12xlarge",
        "environment": {},
        "endpoint": "chat",
    }
    ref = ArtifactRef(name=manifest.name, digest=manifest.digest)
    return plan_deployment(ref, manifest, "s3://bucket/tree/", Wanted(**{**fields, **changes}))


def test_an_endpoint_is_made_once_and_deleted_whole(
    manifest: Manifest, service: Service, state: SageMaker, said: list[str]
) -> None:
    made = carry_out(planned(manifest), service, wait=True)
    assert made["status"] == "InService"
    assert made["created"] is True
    assert state.operations() == ["CreateModel", "CreateEndpointConfig", "CreateEndpoint"]
    assert any("Creating" in line for line in said)
    again = carry_out(planned(manifest), service, wait=True)
    assert again["created"] is False
    assert state.operations().count("CreateEndpoint") == 1
    gone = take_away("chat", service)
    assert [item.split()[0] for item in gone] == ["endpoint", "endpoint", "model"]
    assert not state.things
    assert take_away("chat", service) == []


def test_an_endpoint_that_exists_is_updated(
    manifest: Manifest, service: Service, state: SageMaker
) -> None:
    carry_out(planned(manifest), service, wait=True)
    made = carry_out(planned(manifest, environment={"A": "b"}), service, wait=True)
    assert made["status"] == "InService"
    (update,) = [body for name, body in state.requests if name == "UpdateEndpoint"]
    assert "BlueGreenUpdatePolicy" in update["DeploymentConfig"]


def test_a_container_that_dies_is_shown_with_its_log(manifest: Manifest, service: Service) -> None:
    with pytest.raises(DeployFailed, match="is Failed") as failed:
        carry_out(planned(manifest, environment=BROKEN), service, wait=True)
    assert "did not pass the ping health check" in failed.value.why
    assert "the worker died in /aws/sagemaker/Endpoints/chat" in failed.value.why
    with pytest.raises(DeployFailed, match="is there and Failed"):
        carry_out(planned(manifest), service, wait=True)


def test_an_update_that_fails_is_rolled_back_and_said(manifest: Manifest, service: Service) -> None:
    carry_out(planned(manifest), service, wait=True)
    with pytest.raises(DeployFailed, match="was rolled back to"):
        carry_out(planned(manifest, environment=BROKEN), service, wait=True)


def test_components_are_made_updated_rolled_back_and_deleted(
    manifest: Manifest, service: Service, state: SageMaker
) -> None:
    def deploy(**changes: Any) -> dict[str, Any]:
        copies = Components(copies=2)
        return carry_out(planned(manifest, components=copies, **changes), service, wait=True)

    assert deploy()["status"] == "InService"
    assert deploy(environment={"A": "b"})["status"] == "InService"
    assert state.operations().count("UpdateInferenceComponent") == 1
    with pytest.raises(DeployFailed, match=r"inference component .* rolled back") as failed:
        deploy(environment=BROKEN)
    assert "InferenceComponents/chat-model" in failed.value.why
    assert any("inference component" in item for item in take_away("chat", service))
    assert not [key for key in state.things if key[0] in {"InferenceComponent", "Endpoint"}]


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("AccessDeniedException", 400, EnvironmentFault),
        ("ResourceLimitExceeded", 400, EnvironmentFault),
        ("ValidationException", 400, DeployFailed),
    ],
)
def test_whose_fault_a_refusal_is(
    manifest: Manifest, service: Service, state: SageMaker, code: str, status: int, kind: type
) -> None:
    state.refuse.append(Refusal(code, "no", status))
    with pytest.raises(kind, match="CreateModel"):
        carry_out(planned(manifest), service, wait=True)


def test_waiting_ends(manifest: Manifest, service: Service) -> None:
    patient = Service(
        sagemaker=service.sagemaker, logs=service.logs, say=service.say,
        poll_seconds=0.01, wait_seconds=0,
    )  # fmt: skip
    with pytest.raises(Transient, match="still Creating"):
        carry_out(planned(manifest), patient, wait=True)


def test_the_services_own_model_knows_the_instance_types(service: Service) -> None:
    assert {"ml.g5.12xlarge", "ml.inf2.48xlarge", "ml.c7i.4xlarge"} <= set(instance_types(service))
