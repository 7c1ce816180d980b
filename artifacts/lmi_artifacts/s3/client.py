"""The one module that imports botocore: a client for an address, and its failures in our words.

boto3 would add its transfer manager, which nobody here uses, to every start.
"""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException
from typing import Any, Final

from botocore import exceptions as failures  # noqa: TID253 - only imported for an s3:// URL
from botocore.config import Config  # noqa: TID253 - as above
from botocore.parsers import ResponseParserError  # noqa: TID253 - as above
from botocore.session import Session  # noqa: TID253 - as above
from urllib3.exceptions import HTTPError

from lmi_artifacts.errors import RegistryMisconfigured, RegistryTransient, RegistryUnavailable
from lmi_artifacts.s3.address import Address

CONNECTIONS: Final = 16
_CREDENTIALS: Final = (
    failures.NoCredentialsError,
    failures.PartialCredentialsError,
    failures.CredentialRetrievalError,
    failures.ProfileNotFound,
    failures.TokenRetrievalError,
    failures.SSOError,
)
_NETWORK: Final = (
    failures.HTTPClientError,
    failures.IncompleteReadError,
    failures.ReadTimeoutError,
    failures.ResponseStreamingError,
    failures.FlexibleChecksumError,
    ResponseParserError,
    OSError,
    HTTPError,
    HTTPException,
    ValueError,  # botocore, of a number or a date that it cannot read
)
_TRANSIENT: Final = {
    "SlowDown", "InternalError", "ServiceUnavailable", "RequestTimeout", "500", "503", "502",
    "504", "429", "Throttling", "ThrottlingException", "OperationAborted",
    "BadDigest", "IncompleteBody", "XAmzContentSHA256Mismatch", "InvalidDigest",
}  # fmt: skip
_WORDS: Final = {
    "NoSuchBucket": "there is no such bucket; create it, or correct the URL",
    "InvalidAccessKeyId": "the access key is not known there; check AWS_PROFILE or the credentials",
    "SignatureDoesNotMatch": "the secret key is wrong, or a proxy changes requests",
    "ExpiredToken": "the session token has expired; sign in again, then repeat: it resumes",
    "InvalidToken": "the session token is not valid; sign in again",
    "TokenRefreshRequired": "the session token must be refreshed; sign in again",
    "RequestTimeTooSkewed": "this machine's clock is too far from the server's; set it (NTP)",
    "AuthorizationHeaderMalformed": "the bucket is in another region; set ?region= or AWS_REGION",
    "PermanentRedirect": "the bucket is in another region; set ?region= or AWS_REGION",
    "IllegalLocationConstraintException": "the region is wrong for this bucket; set ?region=",
    "301": "the bucket is in another region; set ?region= or AWS_REGION",
    "400": "the request is not acceptable there: often a wrong region or an expired token",
    "NotImplemented": "the server lacks an operation that a registry needs",
}  # fmt: skip
_RIGHTS: Final = {
    "GetObject": "s3:GetObject", "HeadObject": "s3:GetObject", "PutObject": "s3:PutObject",
    "ListObjectsV2": "s3:ListBucket", "DeleteObject": "s3:DeleteObject",
    "DeleteObjects": "s3:DeleteObject", "CreateMultipartUpload": "s3:PutObject",
    "UploadPart": "s3:PutObject", "CompleteMultipartUpload": "s3:PutObject",
    "AbortMultipartUpload": "s3:AbortMultipartUpload",
    "CopyObject": "s3:GetObject and s3:PutObject",
    "UploadPartCopy": "s3:GetObject and s3:PutObject", "ListParts": "s3:ListMultipartUploadParts",
    "ListMultipartUploads": "s3:ListBucketMultipartUploads",
}  # fmt: skip


class Refused(Exception):
    """An answer that its caller has to understand: a condition failed, or a key is absent."""

    def __init__(self, code: str, status: int) -> None:
        super().__init__(code)
        self.code = code
        self.status = status


@contextmanager
def _uncollected() -> Iterator[None]:
    """Spare the making of much that stays, as botocore's models do, the search for what may go."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def make_client(address: Address, count: Callable[[str], None]) -> Any:  # noqa: ANN401 - boto3 has no types
    """Make a client; `count` is told the name of every operation that is sent, retries too.

    Raises:
        RegistryMisconfigured: no such profile, or a region that is not one.
    """
    try:
        session = Session(profile=address.profile)
        region = address.region or session.get_config_variable("region") or "us-east-1"
        config = Config(
            signature_version="s3v4",
            connect_timeout=10,
            read_timeout=30,
            retries={"mode": "standard", "total_max_attempts": 3},
            max_pool_connections=CONNECTIONS,
            s3={"addressing_style": "path"} if address.endpoint else {},
            request_checksum_calculation="when_supported",
            response_checksum_validation="when_required",
        )
        with _uncollected():
            client = session.create_client(
                "s3", region_name=region, endpoint_url=address.endpoint, config=config
            )
    except (*_CREDENTIALS, failures.BotoCoreError, ValueError) as error:
        raise RegistryMisconfigured(address.url, str(error)) from None

    def sent(request: object, event_name: str, **_: object) -> None:
        del request
        count(event_name.rpartition(".")[2])

    client.meta.events.register("before-send.s3", sent)
    return client


def fill(view: memoryview, body: Any) -> bool:  # noqa: ANN401 - boto3 has no types
    """Read a response's body into memory that is there; says whether it was enough.

    urllib3's own readinto allocates and copies; the response under it receives in place.
    """
    raw = body._raw_stream  # noqa: SLF001 - as said
    done = 0
    while done < len(view):
        count = raw._fp.readinto(view[done:])  # noqa: SLF001 - as said
        if not count:
            return False
        done += count
    raw.release_conn()
    return True


@contextmanager
def translated(address: Address, operation: str, key: str = "") -> Iterator[None]:
    """Turn what botocore raises into this room's errors; never shows headers or signed URLs.

    Raises:
        Refused: 404, 409, 412 and 416, and uploads that are gone.
        RegistryMisconfigured: credentials, rights, region, clock, bucket.
        RegistryTransient: the network, and a server that is busy.
    """
    url = f"{address.url}/{key}" if key else address.url
    try:
        yield
    except failures.ClientError as error:
        raise _from_server(address, operation, key, error) from None
    except _CREDENTIALS as error:
        cause = f"there are no usable credentials ({type(error).__name__}); set AWS_PROFILE,"
        raise RegistryMisconfigured(
            address.url, f"{cause} AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or use a role"
        ) from None
    except failures.EndpointConnectionError:
        where = address.endpoint or "AWS, from here"
        cause = f"nothing answers at {where}; correct ?endpoint=, ?region= or the network"
        raise RegistryMisconfigured(url, cause) from None
    except _NETWORK as error:
        cause = f"{operation} got no whole answer ({type(error).__name__}); try again"
        raise RegistryTransient(url, cause) from None
    except failures.BotoCoreError as error:
        raise RegistryMisconfigured(url, f"{operation}: {type(error).__name__}") from None


def _from_server(
    address: Address, operation: str, key: str, error: failures.ClientError
) -> Exception:
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    url = f"{address.url}/{key}" if key else address.url
    if code in _WORDS and not (code in {"400", "301"} and operation != "HeadObject"):
        return RegistryMisconfigured(address.url, f"{operation}: {_WORDS[code]}")
    if code in {"NoSuchUpload", "InvalidPart"} or status in {404, 409, 412, 416, 304}:
        return Refused(code, status)
    if status == 403 or code == "AccessDenied":  # noqa: PLR2004 - HTTP's number
        right = _RIGHTS.get(operation, operation)
        hint = "; without s3:ListBucket an absent key answers so, too" if "Get" in right else ""
        return RegistryMisconfigured(url, f"access denied: {right} is missing{hint}")
    if code in _TRANSIENT or status >= 500:  # noqa: PLR2004 - HTTP's numbers
        return RegistryTransient(url, f"{operation}: the server answered {code or status}")
    return RegistryUnavailable(url, f"{operation}: the server answered {code or status}")
