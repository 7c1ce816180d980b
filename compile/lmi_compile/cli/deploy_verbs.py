"""Verbs that bring an artifact to where it serves: deploy, export."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lmi_artifacts.digest import JSONValue
from lmi_artifacts.errors import ArtifactRefused
from lmi_artifacts.registry import Layout
from lmi_artifacts.trust import parse_demands
from lmi_compile.cli.options import (
    DEMANDS,
    keys_option,
    layout_option,
    registry_of,
    settings_options,
    standing,
    voice_options,
)
from lmi_compile.console import Console
from lmi_compile.deploy.preflight import checked, ready_seconds, unknown_instance
from lmi_compile.deploy.requests import Components, Deployment, Wanted, plan_deployment
from lmi_compile.errors import EnvironmentFault, ExitCode
from lmi_compile.settings import Settings

if TYPE_CHECKING:
    from lmi_compile.deploy.sagemaker import Service

image_option = click.option(
    "--image", help="The image that serves it, where the toolchain's own is not wanted."
)
environment_option = click.option(
    "--env", "variables", multiple=True, metavar="NAME=VALUE", help="A variable of the container."
)


@click.command()
@click.argument("ref", required=False)
@click.option("--instance-type", metavar="ml.X", help="What the endpoint runs on.")
@click.option("--endpoint-name", metavar="NAME", help="Default: the artifact's name and digest.")
@click.option("--role", metavar="ARN", envvar="LMI_ROLE", help="The execution role (or LMI_ROLE).")
@click.option("--region", envvar=["AWS_REGION", "AWS_DEFAULT_REGION"], help="AWS region.")
@click.option("--instances", default=1, show_default=True, type=click.IntRange(1),
              help="How many, to begin with.")  # fmt: skip
@click.option("--copies", type=click.IntRange(1), help="Inference components: copies per instance.")
@click.option("--accelerators", type=click.IntRange(1), help="With --copies: devices of one copy.")
@click.option("--memory-mib", type=click.IntRange(128), help="With --copies: memory of one copy.")
@image_option
@layout_option
@click.option("--startup-seconds", type=click.IntRange(60, 3600), help="Health check's time-out.")
@click.option("--alarm", "alarms", multiple=True, help="CloudWatch alarm that rolls back.")
@click.option("--require", default="verified,proven", show_default=True, help=DEMANDS)
@click.option("--dry-run", is_flag=True, help="Print the exact requests and send nothing.")
@click.option("--delete", is_flag=True, help="Take the endpoint and what it uses away.")
@click.option("--no-wait", is_flag=True, help="Return when the request is accepted.")
@click.option("--wait-seconds", default=7200.0, show_default=True, help="Give up waiting then.")
@click.option("--poll-seconds", default=15.0, show_default=True, help="Between two looks.")
@environment_option
@keys_option
@settings_options
@voice_options
def deploy(
    ref: str | None,
    *,
    instance_type: str | None,
    endpoint_name: str | None,
    region: str | None,
    layout: Layout,
    require: str,
    dry_run: bool,
    delete: bool,
    no_wait: bool,
    keys: tuple[Path, ...],
    settings: Settings,
    console: Console,
    **flags: Any,  # noqa: ANN401 - click gives each option the type that it declares
) -> int:
    """Put the artifact REF behind a SageMaker endpoint: model, configuration, endpoint.

    An endpoint that exists is updated: in batches from two instances on, and rolled back when it
    fails or an --alarm rings. Exit 7 when it does not come up, with the end of the container's
    log; 10 when the artifact is revoked or cannot load there.
    """
    region = _needed(region, "--region")
    if delete:
        service = _connect(region, console, flags)
        return _delete(_needed(endpoint_name, "--endpoint-name"), service, console)
    registry = registry_of(settings)
    artifact = registry.resolve(_needed(ref, "REF"))
    instance = _needed(instance_type, "--instance-type")
    found = checked(registry, artifact, instance, parse_demands(require), keys)
    wanted = _wanted(region, instance, endpoint_name, flags)
    wanted = replace(wanted, layout=layout, ready_seconds=ready_seconds(found))
    where = registry.location(artifact, layout)
    planned = plan_deployment(artifact, found.manifest, where, wanted)
    if dry_run:
        console.json(planned.to_json())
        return ExitCode.OK
    service = _connect(region, console, flags)
    made = _carried_out(planned, instance, service, wait=not no_wait)
    console.answer({"artifact": str(artifact), **made}, planned.endpoint)
    return ExitCode.OK


def _carried_out(
    planned: Deployment, instance: str, service: "Service", *, wait: bool
) -> dict[str, JSONValue]:
    from lmi_compile.deploy.sagemaker import carry_out, instance_types  # noqa: PLC0415 - boto3

    unknown_instance(instance, instance_types(service))
    return carry_out(planned, service, wait=wait)


def _wanted(
    region: str,
    instance: str,
    endpoint: str | None,
    flags: Mapping[str, Any],
) -> Wanted:
    copies, devices, memory = (flags[name] for name in ("copies", "accelerators", "memory_mib"))
    if copies is None and (devices or memory):
        raise click.UsageError("--accelerators and --memory-mib go with --copies")
    components = Components(copies=copies or 1, accelerators=devices, memory_mib=memory)
    return Wanted(
        region=region,
        role=_needed(flags["role"], "--role"),
        instance_type=instance,
        instances=flags["instances"],
        endpoint=endpoint,
        image=flags["image"],
        environment=parse_variables(flags["variables"]),
        startup_seconds=flags["startup_seconds"],
        components=None if copies is None else components,
        alarms=flags["alarms"],
    )


@click.group()
def export() -> None:
    """Write a deployment for a host that is not SageMaker's."""


@export.command()
@click.argument("ref")
@image_option
@click.option("--folder", default="./model", show_default=True, help="Where the tree is pulled to.")
@click.option("--port", default=8080, show_default=True, type=click.IntRange(1, 65535),
              help="Of the host.")  # fmt: skip
@click.option("--compose", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
              help="Write a compose file, too.")  # fmt: skip
@environment_option
@settings_options
@voice_options
def docker(
    ref: str,
    *,
    image: str | None,
    folder: str,
    port: int,
    compose: Path | None,
    variables: tuple[str, ...],
    settings: Settings,
    console: Console,
) -> int:
    """Print the commands that serve the artifact REF on a plain Docker host."""
    from lmi_compile.deploy.docker import compose_file, host_for, run_line  # noqa: PLC0415

    registry = registry_of(settings)
    artifact = standing(registry, ref)
    host = host_for(
        artifact,
        registry.manifest(artifact),
        image=image,
        folder=str(Path(folder).absolute()),
        port=port,
        environment=parse_variables(variables),
    )
    name = artifact.name.lower()
    pull = f"lmi-compile pull {artifact} {folder} --registry {registry.url}"
    text = compose_file(name, host)
    if compose is not None:
        try:
            compose.write_text(text, encoding="utf-8")
        except OSError as error:
            raise EnvironmentFault(f"{compose} cannot be written", str(error)) from error
    line = run_line(name, host)
    told: dict[str, JSONValue] = {"pull": pull, "run": line, "compose": text}
    console.answer(told, pull, line)
    return ExitCode.OK


def parse_variables(texts: tuple[str, ...]) -> dict[str, str]:
    """Read `NAME=VALUE` words.

    Raises:
        click.UsageError: one is not of that form.
    """
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.replace("_", "a").isalnum() or name[0].isdigit():
            raise click.UsageError(f"--env {text!r}: the form is NAME=VALUE")
        found[name] = value
    return found


def _needed(value: str | None, name: str) -> str:
    if not value:
        raise click.UsageError(f"missing {name}")
    return value


def _connect(region: str, console: Console, flags: Mapping[str, Any]) -> "Service":
    try:
        from lmi_compile.deploy.sagemaker import connect  # noqa: PLC0415 - boto3
    except ModuleNotFoundError as error:
        what, fix = "deploying needs boto3", "pip install 'lmi-compile[s3]'"
        raise EnvironmentFault(what, str(error), fix) from error
    poll, wait = flags["poll_seconds"], flags["wait_seconds"]
    return connect(region, console.line, poll_seconds=poll, wait_seconds=wait)


def _delete(endpoint: str, service: "Service", console: Console) -> int:
    from lmi_compile.deploy.sagemaker import take_away  # noqa: PLC0415 - boto3

    gone = take_away(endpoint, service)
    if not gone:
        raise ArtifactRefused(f"the endpoint {endpoint}", ["there is none of that name"])
    console.answer({"deleted": list(gone)}, *gone)
    return ExitCode.OK
