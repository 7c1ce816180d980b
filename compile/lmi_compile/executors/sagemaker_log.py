"""A SageMaker job's log, as CloudWatch has it so far."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import ClientError  # noqa: TID253 - imported when a job runs

from lmi_compile.executors.sagemaker_aws import client

_GROUP = "/aws/sagemaker/{}Jobs"


@dataclass(slots=True)
class Log:
    """The streams of one job; each line is given once."""

    kind: str
    name: str
    _tokens: dict[str, str] = field(default_factory=dict)

    def new_lines(self) -> Iterator[str]:
        """Lines that were not there at the last call; none where the log cannot be read."""
        logs = client("logs")
        group = _GROUP.format(self.kind.capitalize())
        try:
            found = logs.describe_log_streams(
                logGroupName=group, logStreamNamePrefix=f"{self.name}/"
            )["logStreams"]
            for stream in sorted(item["logStreamName"] for item in found):
                yield from self._new_in(logs, group, stream)
        except ClientError:
            return  # not begun, or this user may not read it; the job's end is known without

    def _new_in(self, logs: Any, group: str, stream: str) -> Iterator[str]:
        while True:
            last = self._tokens.get(stream)
            page = logs.get_log_events(
                logGroupName=group,
                logStreamName=stream,
                startFromHead=True,
                **({"nextToken": last} if last else {}),
            )
            self._tokens[stream] = page["nextForwardToken"]
            yield from (event["message"].rstrip() for event in page["events"])
            if not page["events"] or page["nextForwardToken"] == last:
                return
