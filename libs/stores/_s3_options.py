"""What a manifest may say about S3, and the account that comes of it: where, and as whom."""

from __future__ import annotations

import os
import re
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator

from libs.common.errors import PermanentError
from libs.common.secrets import Secret
from libs.stores import Reach, StoreOptions

if TYPE_CHECKING:
    from botocore.credentials import Credentials

REGION = re.compile(r"[a-z0-9-]{1,40}")
BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
DNS_BUCKET = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")  # fits the certificate of the endpoint
DEFAULT_REGION = "us-east-1"
Addressing = Literal["auto", "path", "virtual"]


def endpoint_url(text: str) -> str:
    """http(s)://host[:port] and nothing more."""
    parts = urlsplit(text)
    _ = parts.port  # raises ValueError
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("write http://host:port or https://host")
    if "@" in parts.netloc:
        raise ValueError("a user or password in an endpoint; name credentials by secretRef")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError("an endpoint has no path; the bucket belongs into spec.source.url")
    return f"{parts.scheme}://{parts.netloc.lower()}"


def region_name(text: str) -> str:
    if not REGION.fullmatch(text):
        raise ValueError("a region looks like eu-central-1")
    return text


class S3Options(StoreOptions):
    """Of spec.source.options."""

    endpoint: Annotated[str, AfterValidator(endpoint_url)] | None = None
    region: Annotated[str, AfterValidator(region_name)] | None = None
    addressing: Addressing = "auto"  # path: host/bucket/key; virtual: bucket.host/key
    anonymous: bool = False  # unsigned, for public buckets
    requester_pays: bool = False


@dataclass(frozen=True)
class Account:
    """Where requests go and who signs them."""

    endpoint: str  # "": Amazon's, by region
    region: str
    addressing: Addressing
    credentials: Credentials | None = field(repr=False)  # None: unsigned
    trusted: bool  # the operator's own endpoint, or Amazon's: wherever it lies
    requester_pays: bool = False

    def base(self, bucket: str) -> tuple[str, str]:
        """scheme://host[:port], and what the path begins with."""
        endpoint = self.endpoint or f"https://s3.{self.region}.{_suffix(self.region)}"
        virtual = self.addressing == "virtual"
        if self.addressing == "auto":
            virtual = not self.endpoint and DNS_BUCKET.fullmatch(bucket) is not None
        if not virtual:
            return endpoint, f"/{bucket}"
        scheme, _, host = endpoint.partition("://")
        return f"{scheme}://{bucket}.{host}", ""


def account(reach: Reach) -> Account:
    """Of a source: its secret resolved, else the process's own credentials.

    Our own credentials go to our own endpoint alone, never to one that a manifest names. Raises
    PermanentError `invalid_option`, `secret_not_found`, `invalid_secret`.
    """
    options = reach.parsed(S3Options)
    secret = reach.credentials()
    ours = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    ours = _valid(endpoint_url, ours, "AWS_ENDPOINT_URL")
    told = _valid(endpoint_url, secret.first("endpoint", "endpoint_url") or "", reach.secret)
    endpoint = options.endpoint or told or ours
    trusted = endpoint == ours
    ambient = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    region = options.region or secret.first("region") or (trusted and ambient) or DEFAULT_REGION
    return Account(
        endpoint=endpoint,
        region=_valid(region_name, region, "region"),
        addressing=options.addressing,
        credentials=_credentials(options, secret, reach.secret, trusted),
        trusted=trusted,
        requester_pays=options.requester_pays,
    )


def _credentials(
    options: S3Options, secret: Secret, name: str, trusted: bool
) -> Credentials | None:
    from botocore.credentials import Credentials

    if options.anonymous:
        return None
    if not secret:
        return _ambient.get() if trusted else None
    key = secret.first("access_key_id", "access_key", "username")
    value = secret.first("secret_access_key", "secret_key", "password")
    if not key or not value:
        raise PermanentError(
            f"secret {name!r} has {', '.join(sorted(secret))}; S3 needs access_key_id and "
            "secret_access_key (and session_token where they are temporary)",
            code="invalid_secret",
            path="spec.source.secretRef",
        )
    return Credentials(key, value, secret.first("session_token", "token"))


class _Ambient:
    """The process's own credentials: environment, shared files, container, instance role.

    Found once, since asking an instance's metadata takes a while; they renew themselves.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: list[Credentials | None] = []

    def get(self) -> Credentials | None:
        import botocore.session

        with self._lock:
            if not self._found:
                self._found.append(botocore.session.Session().get_credentials())
            return self._found[0]


_ambient = _Ambient()


def _valid(check: object, text: str, where: str) -> str:
    assert callable(check)
    try:
        return str(check(text)) if text else ""
    except ValueError as error:
        raise PermanentError(f"{where}: {error}", code="invalid_option") from error


def _suffix(region: str) -> str:
    return "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
