"""The SageMaker executor: a step of the toolchain's image is a job on the recipe's own instance.

Other steps run here. Inputs go to S3 once, by the key of the step that made them; a job's name
follows from the key of what it makes, so that a second command finds the job of the first one,
running or done, and pays for none twice.
"""

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import botocore.session  # noqa: TID253 - imported when a job is asked for
from botocore.exceptions import ClientError  # noqa: TID253 - as above

from lmi_artifacts.digest import JSONValue
from lmi_compile.errors import EnvironmentFault, ToolFailed, Transient
from lmi_compile.executors import sagemaker_entry
from lmi_compile.executors.ending import check_outputs, failure
from lmi_compile.executors.local import run_step
from lmi_compile.executors.running import Running
from lmi_compile.executors.sagemaker_aws import client, download, put, service_faults, upload
from lmi_compile.executors.sagemaker_log import Log
from lmi_compile.executors.sagemaker_requests import (
    ENTRY,
    Account,
    Kind,
    entry_request,
    job_name,
    kind_for,
    output_of,
    request_of,
)
from lmi_compile.plan import Plan
from lmi_compile.settings import Settings
from lmi_compile.step import Argv, Step
from lmi_compile.workspace import Staging

_S3 = re.compile(r"s3://([^/]+)/?(.*)")
_EXIT = re.compile(r'"exit": (\d+)')
_OURS = ("CapacityError", "InternalServerError")  # the service's own words for its own failures
_NONE = {"ValidationException", "ResourceNotFound", "ResourceNotFoundException"}


@dataclass(slots=True, kw_only=True)
class SageMakerJobs:
    """The executor.

    Attributes:
        settings: the role, the S3 prefix, an image that replaces the toolchain's.
        running: lets another thread stop its jobs.
    """

    settings: Settings
    running: Running = field(default_factory=Running)
    _instances: dict[str, str] = field(default_factory=dict)

    def prepare(self, plan: Plan) -> None:
        """Hold that every job of `plan` can be asked for.

        Raises:
            Unsupported: SageMaker has no such instances.
            EnvironmentFault: the role, the prefix or a usable image is missing.
        """
        self.requests(plan)

    def requests(self, plan: Plan) -> list[dict[str, JSONValue]]:
        """The requests of `plan`'s jobs as they would be sent now; `--dry-run` prints them."""
        made = []
        keys = plan.keys
        for planned in plan.steps:
            if not _is_job(planned.step):
                continue
            self._instances[planned.key] = str(plan.order.recipe.target.instance_type)
            account = self._account(planned.key)
            needs = {need: keys[need] for need in planned.step.needs}
            inputs = _inputs(account.prefix, planned.key, needs)
            made.append(request_of(planned.step, planned.key, account, inputs, number=0, size=0))
        return made

    def __call__(
        self,
        step: Step,
        inputs: Mapping[str, Path],
        staging: Staging,
        on_line: Callable[[str], None],
    ) -> Mapping[str, JSONValue]:
        """Run `step` as a job, or here where it belongs here."""
        if not _is_job(step):
            offline = self.settings.offline
            return run_step(step, inputs, staging, on_line, offline=offline, running=self.running)
        key = staging.root.name.partition(".")[0]
        account = self._account(key)
        with service_faults(step.name):
            job = self._job(step, key, account, inputs, on_line)
            with self._held(job, step):
                said = self._follow(job, staging, on_line)
                _explain(job, said, step, staging)
            download(_output(job, said, account.prefix, key), staging.out)
        check_outputs(step, staging)
        ran: dict[str, JSONValue] = {"executor": "sagemaker", "job": job.name, "kind": job.kind}
        return {**ran, "instance_type": account.instance_type}

    def _account(self, key: str) -> Account:
        role, prefix = self.settings.sagemaker_role, self.settings.sagemaker_prefix
        if not role or not prefix or not _S3.fullmatch(prefix):
            what = "SageMaker jobs need a role and a place in S3"
            fix = "set --sagemaker-role ARN and --sagemaker-prefix s3://BUCKET/PREFIX"
            raise EnvironmentFault(what, fix=fix)
        shapes = botocore.session.get_session().get_service_model("sagemaker")
        kind = kind_for(
            self._instances[key],
            shapes.shape_for("ProcessingInstanceType").enum,
            shapes.shape_for("TrainingInstanceType").enum,
        )
        return Account(
            role=role,
            prefix=prefix,
            instance_type=self._instances[key],
            kind=kind,
            image=self.settings.image,
        )

    def _job(
        self,
        step: Step,
        key: str,
        account: Account,
        inputs: Mapping[str, Path],
        on_line: Callable[[str], None],
    ) -> "_Job":
        """The job that makes `key`: one that runs or is done, else a new one."""
        for number in count():
            job = _Job(account.kind, job_name(step.name, key, number), number)
            status = job.status()
            if status in {"InProgress", "Completed"}:
                on_line(f"job {job.name} is {status}; taking it over")
                return job
            if status is not None:
                continue
            needs = {name: path.parent.name for name, path in inputs.items()}
            places = _inputs(account.prefix, key, needs)
            size = sum(upload(path, places[name]) for name, path in inputs.items())
            _upload_entry(step, account.kind, places[ENTRY])
            request = request_of(step, key, account, places, number=number, size=size)
            job.create(request)
            on_line(f"{account.kind} job {job.name} on {account.instance_type}")
            return job
        raise AssertionError  # `count` does not end

    def _follow(
        self, job: "_Job", staging: Staging, on_line: Callable[[str], None]
    ) -> Mapping[str, Any]:
        log = Log(job.kind, job.name)
        with staging.log.open("ab") as kept:
            while True:
                said = job.describe()
                for line in log.new_lines():
                    kept.write(line.encode() + b"\n")
                    on_line(line)
                if said[job.status_field] not in {"InProgress", "Stopping"}:
                    return said
                time.sleep(self.settings.sagemaker_poll_seconds)

    @contextmanager
    def _held(self, job: "_Job", step: Step) -> Iterator[None]:
        """Stop the job when this command is stopped, by a signal or another thread."""
        try:
            with self.running.held(step.name, job.stop):
                yield
        except KeyboardInterrupt:
            job.stop()
            raise


@dataclass(frozen=True, slots=True)
class _Job:
    """One job, of either kind."""

    kind: Kind
    name: str
    number: int

    @property
    def status_field(self) -> str:
        return f"{self.kind.capitalize()}JobStatus"

    def describe(self) -> Mapping[str, Any]:
        said: Mapping[str, Any] = self._call("describe")
        return said

    def status(self) -> str | None:
        """Its status; None where there is no such job."""
        try:
            return str(self.describe()[self.status_field])
        except ClientError as error:
            if error.response["Error"]["Code"] in _NONE:
                return None
            raise

    def create(self, request: Mapping[str, JSONValue]) -> None:
        getattr(client("sagemaker"), f"create_{self.kind}_job")(**request)

    def stop(self) -> None:
        self._call("stop")

    def _call(self, verb: str) -> Any:
        named = {f"{self.kind.capitalize()}JobName": self.name}
        return getattr(client("sagemaker"), f"{verb}_{self.kind}_job")(**named)


def _explain(job: _Job, said: Mapping[str, Any], step: Step, staging: Staging) -> None:
    """Raise what a job that did not complete stands for."""
    status = said[job.status_field]
    if status == "Completed":
        return
    words = f"{said.get('FailureReason', '')} {said.get('ExitMessage', '')}".strip()
    what = f"step {step.name}: job {job.name} is {status}"
    if status == "Stopped":
        raise Transient(what, words, "somebody or its time limit stopped it; run it again")
    found = _EXIT.search(words)
    if found:
        last = staging.log.read_text(encoding="utf-8", errors="replace").splitlines()[-12:]
        raise failure(step, int(found.group(1)), staging, last)
    if any(text in words for text in _OURS):
        raise Transient(what, words, "run the same command again")
    raise ToolFailed(what, words, "its log is in CloudWatch")


def _is_job(step: Step) -> bool:
    return step.image is not None and isinstance(step.run, Argv)


def _inputs(prefix: str, key: str, needs: Mapping[str, str]) -> dict[str, str]:
    base = prefix.rstrip("/")
    places = {name: f"{base}/in/{made}" for name, made in needs.items()}
    return {**places, ENTRY: f"{base}/entry/{key}"}


def _output(job: _Job, said: Mapping[str, Any], prefix: str, key: str) -> str:
    if job.kind == "training":
        return str(said["ModelArtifacts"]["S3ModelArtifacts"])
    return output_of(prefix, key, job.number)


def _upload_entry(step: Step, kind: Kind, url: str) -> None:
    source = Path(str(sagemaker_entry.__file__))
    request = json.dumps(entry_request(step, kind))
    put(f"{url}/{source.name}", source.read_bytes())
    put(f"{url}/request.json", request.encode())
