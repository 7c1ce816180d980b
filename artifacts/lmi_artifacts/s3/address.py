"""`s3://bucket/prefix?endpoint=...`: where an S3 registry is, and how to speak to it.

Credentials never stand in a URL: they come from boto3's own chain (environment, profile, role).
"""

import re
from dataclasses import dataclass
from typing import Final

from lmi_artifacts.errors import RegistryUnavailable

_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_OPTIONS: Final = ("endpoint", "region", "profile", "kms", "payer")
_SECRETS: Final = re.compile(r"(?i)(x-amz-|signature|secret|token|accesskey|awsaccess)")
FORM: Final = "s3://bucket/prefix?endpoint=URL&region=R&profile=P&kms=KEY&payer=requester"


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """One prefix of one bucket.

    Attributes:
        bucket: its name.
        prefix: what every key starts with; empty or ending in `/`.
        endpoint: URL of another S3 server than AWS's, or None.
        region: AWS region, or None for boto3's own choice.
        profile: profile of the AWS configuration, or None.
        kms: key that the server encrypts with (SSE-KMS), or None.
        payer: whether this account pays for requests (requester pays).
    """

    bucket: str
    prefix: str
    endpoint: str | None = None
    region: str | None = None
    profile: str | None = None
    kms: str | None = None
    payer: bool = False

    @property
    def url(self) -> str:
        """The bucket and prefix, as a person writes them."""
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    @property
    def plain(self) -> bool:
        """Whether requests go without TLS."""
        return self.endpoint is not None and self.endpoint.lower().startswith("http://")


def parse_address(url: str) -> Address:
    """Read a registry's URL.

    Raises:
        RegistryUnavailable: it is not of the form `FORM`; what could be a secret is not repeated.
    """
    from urllib.parse import parse_qsl  # noqa: PLC0415 - only S3 registries need it

    rest, _, query = url.removeprefix("s3://").partition("?")
    shown = f"s3://{rest}" if "@" not in rest else "s3://..."
    if _SECRETS.search(query) or "@" in rest:
        cause = "a URL carries no credentials and no signature; set AWS_PROFILE or a role instead"
        raise RegistryUnavailable(shown.partition("?")[0], cause)
    if "://" in rest or "," in rest or re.search(r"\s", url):
        raise RegistryUnavailable(shown, f"it names more than one registry; give one: {FORM}")
    bucket, _, prefix = rest.partition("/")
    if _BUCKET.fullmatch(bucket) is None:
        raise RegistryUnavailable(shown, f"{bucket!r} is not a bucket's name; the form is {FORM}")
    prefix = prefix.strip("/")
    if any(part in {"", ".", ".."} for part in prefix.split("/")) and prefix:
        raise RegistryUnavailable(shown, "its prefix has an empty, '.' or '..' segment")
    pairs = parse_qsl(query, keep_blank_values=True)
    options = dict(pairs)
    if len(options) != len(pairs):
        raise RegistryUnavailable(shown, "it names one option twice")
    if "@" in options.get("endpoint", ""):
        cause = "its endpoint carries credentials; set AWS_PROFILE or a role instead"
        raise RegistryUnavailable(shown, cause)
    unknown = sorted(set(options) - set(_OPTIONS))
    if unknown:
        cause = f"unknown option {', '.join(unknown)}; known are {', '.join(_OPTIONS)}"
        raise RegistryUnavailable(shown, cause)
    if options.get("payer", "requester") != "requester":
        raise RegistryUnavailable(shown, "payer can only be 'requester'")
    return Address(
        bucket=bucket,
        prefix=f"{prefix}/" if prefix else "",
        endpoint=options.get("endpoint") or None,
        region=options.get("region") or None,
        profile=options.get("profile") or None,
        kms=options.get("kms") or None,
        payer="payer" in options,
    )
