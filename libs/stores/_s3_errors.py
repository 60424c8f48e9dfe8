"""What S3 answers when it doesn't give what was asked for, and what that means for a run."""

from __future__ import annotations

import re
from dataclasses import dataclass

from libs.common.errors import OneBlockError, PermanentError, TransientError
from libs.stores._s3_options import REGION

BUSY = frozenset({408, 429, 500, 502, 503, 504})
BUSY_CODES = frozenset({"SlowDown", "RequestTimeout", "InternalError", "ServiceUnavailable"})
_CODE = re.compile(rb"<Code>([A-Za-z0-9.]{1,100})</Code>")
_REGION = re.compile(rb"<Region>([a-z0-9-]{1,40})</Region>")

_FORBIDDEN = {
    "InvalidAccessKeyId": "the access key is unknown there",
    "SignatureDoesNotMatch": "the secret key is wrong (or the endpoint is)",
    "ExpiredToken": "the credentials have expired",
    "InvalidToken": "the session token is wrong",
    "InvalidObjectState": "it is archived; restore it first",
}


@dataclass(eq=False)  # not frozen: raising sets the traceback
class Refusal(Exception):
    """An answer that isn't what was asked for; never holds more than its code."""

    status: int
    code: str = ""
    region: str = ""  # where the bucket really is, if the answer says

    @property
    def busy(self) -> bool:
        """Whether asking again soon may help."""
        return self.status in BUSY or self.code in BUSY_CODES

    def __str__(self) -> str:
        return f"{self.status} {self.code}".strip()

    @classmethod
    def of(cls, status: int, headers: dict[str, str], body: bytes) -> Refusal:
        """`headers` in lower case; a HEAD has no body."""
        code, region = _CODE.search(body), _REGION.search(body)
        told = headers.get("x-amz-bucket-region") or (region.group(1).decode() if region else "")
        return cls(
            status,
            code.group(1).decode() if code else "",
            told if REGION.fullmatch(told) else "",
        )


def translated(refusal: Refusal, what: str, *, signed: bool, pinned: bool = False) -> OneBlockError:
    """`what` names the object or prefix; `pinned`: it was there when it was listed."""
    status, code = refusal.status, refusal.code
    if status == 412 or (pinned and (status == 404 or status == 416)):
        gone = "is gone since" if status == 404 else "changed after"
        return PermanentError(f"{what} {gone} it was listed; run again", code="source_changed")
    if code == "RequestTimeTooSkewed":
        return PermanentError(f"{what}: this machine's clock is wrong", code="clock_skew")
    if code == "NoSuchBucket":
        return PermanentError(f"{what}: no such bucket", code="source_not_found")
    if status == 404:
        return PermanentError(f"{what}: no such object or prefix", code="source_not_found")
    if status in (401, 403):
        said = _FORBIDDEN.get(code, "not allowed with these credentials")
        if not signed:
            said = "not public; name credentials with spec.source.secretRef"
        return PermanentError(f"{what}: {said} ({refusal})", code="source_forbidden")
    if refusal.busy:
        return TransientError(f"{what}: the server is busy ({refusal})", code="source_unavailable")
    return PermanentError(f"{what}: S3 answered {refusal}", code="source_unreadable")
