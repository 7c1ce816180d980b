"""What the SageMaker executor asks AWS for: clients, files to and from S3, and its refusals."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import boto3  # noqa: TID253 - imported when a job is asked for
from boto3.exceptions import Boto3Error  # noqa: TID253 - as above
from botocore.exceptions import BotoCoreError, ClientError  # noqa: TID253 - as above

from lmi_compile.errors import EnvironmentFault, ToolFailed, Transient

_BUSY = {"ThrottlingException", "Throttling", "ServiceUnavailable", "InternalFailure"}


@cache
def client(service: str) -> Any:
    """The one client of a service; the usual variables say where it is and who asks."""
    return boto3.client(service)


def upload(folder: Path, url: str) -> int:
    """Bring a step's outputs to S3 unless they are there; returns their size in bytes."""
    bucket, prefix = _split(url)
    s3 = client("s3")
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    done = f"{prefix}.done"  # beside it, written last
    if s3.list_objects_v2(Bucket=bucket, Prefix=done).get("KeyCount"):
        return size
    for path in files:
        s3.upload_file(str(path), bucket, f"{prefix}/{path.relative_to(folder)}")
    s3.put_object(Bucket=bucket, Key=done, Body=b"")
    return size


def download(url: str, out: Path) -> None:
    """Bring what a job made into a step's output directory.

    Raises:
        ToolFailed: a name leads out of the directory.
    """
    bucket, prefix = _split(url.rstrip("/"))
    s3 = client("s3")
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{prefix}/")
    for item in (item for page in pages for item in page.get("Contents", [])):
        target = out / item["Key"].removeprefix(f"{prefix}/")
        if not target.resolve().is_relative_to(out.resolve()):
            raise ToolFailed(f"{item['Key']} would leave the step's directory")
        target.parent.mkdir(parents=True, exist_ok=True)
        s3.download_file(bucket, item["Key"], str(target))


def put(url: str, content: bytes) -> None:
    """Write one object."""
    bucket, key = _split(url)
    client("s3").put_object(Bucket=bucket, Key=key, Body=content)


def _split(url: str) -> tuple[str, str]:
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    return bucket, prefix


@contextmanager
def service_faults(step: str) -> Iterator[None]:
    """Turn what AWS refuses into an error that says what to do.

    Raises:
        Transient: AWS is busy.
        EnvironmentFault: it refuses, or cannot be asked.
    """
    try:
        yield
    except ClientError as error:
        code = error.response["Error"]["Code"]
        what = f"step {step}: AWS refused {error.operation_name}: {code}"
        words = str(error.response["Error"].get("Message", ""))
        if code in _BUSY:
            raise Transient(what, words, "run the same command again") from error
        fix = "check the role, the credentials, and the account's quota for the instance type"
        raise EnvironmentFault(what, words, fix) from error
    except (BotoCoreError, Boto3Error) as error:
        what = f"step {step}: AWS cannot be asked"
        fix = "set credentials and AWS_REGION, and check the network"
        raise EnvironmentFault(what, str(error), fix) from error
