"""API tokens: `ob_<id>.<secret>`, kept as hashes in a file, with scopes and namespaces.

The file is JSON: `{"tokens": [{"id", "hash", "name", "scopes", "namespaces", "expires"}]}`.
Secrets are 256 random bits, so one SHA-256 is hash enough. An edited file holds within a second:
removing an entry revokes its token.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request

from libs.common.errors import PermanentError
from libs.common.web.problems import not_found

Scope = Literal["read", "write", "label", "admin"]
SCOPES: tuple[Scope, ...] = ("read", "write", "label", "admin")
RELOAD_AFTER = 1.0  # seconds between looks at the file
log = structlog.get_logger()


class Entry(BaseModel):
    """One token as the file keeps it."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    id: str
    hash: str = Field(pattern=r"^sha256:[0-9a-f]{64}$")
    name: str = ""
    scopes: tuple[Scope, ...] = ("read",)
    namespaces: tuple[str, ...] = ("*",)  # "*": all of them
    expires: datetime | None = None


class TokenFile(BaseModel):
    """The whole file."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    tokens: tuple[Entry, ...] = ()


@dataclass(frozen=True)
class Identity:
    """Who asks, and what they may do. `admin` includes every scope."""

    name: str
    scopes: frozenset[str]
    namespaces: frozenset[str]

    def may(self, scope: Scope) -> bool:
        return scope in self.scopes or "admin" in self.scopes

    def sees(self, namespace: str) -> bool:
        return "*" in self.namespaces or namespace in self.namespaces

    def require_namespace(self, namespace: str, what: str) -> None:
        """Raises `not_found` for `what`, so that nobody learns of other namespaces' things."""
        if not self.sees(namespace):
            raise not_found(what)


LOCAL = Identity("local", frozenset(SCOPES), frozenset({"*"}))  # loopback without tokens


def new_token(
    *,
    name: str = "",
    scopes: Iterable[Scope] = ("read",),
    namespaces: Iterable[str] = ("*",),
    expires: datetime | None = None,
) -> tuple[str, Entry]:
    """A fresh token, told once, and the entry to keep."""
    ident, secret = secrets.token_hex(4), secrets.token_urlsafe(32)
    entry = Entry(
        id=ident,
        hash=_hash(secret),
        name=name,
        scopes=tuple(scopes),
        namespaces=tuple(namespaces),
        expires=expires,
    )
    return f"ob_{ident}.{secret}", entry


def add_entry(path: Path, entry: Entry) -> None:
    """Add an entry to the file, which only its owner may read; created where it is absent."""
    known = _read(path).tokens if path.exists() else ()
    _write(path, TokenFile(tokens=(*known, entry)))


def remove_entry(path: Path, ident: str) -> bool:
    """Revoke a token by its id; False when there is none."""
    known = _read(path).tokens
    kept = tuple(e for e in known if e.id != ident)
    _write(path, TokenFile(tokens=kept))
    return len(kept) < len(known)


class Tokens:
    """The tokens of a file, read again when it changes."""

    def __init__(self, path: Path, entries: Iterable[Entry]) -> None:
        self._path = path
        self._entries = {e.id: e for e in entries}
        self._stamp = _stamp(path)
        self._looked = time.monotonic()

    @classmethod
    def load(cls, path: Path) -> Tokens:
        """Raises PermanentError `invalid_tokens_file` that names file and problem."""
        return cls(path, _read(path).tokens)

    def identify(self, token: str, now: datetime | None = None) -> Identity | None:
        """Whose token this is; None for an unknown, revoked or expired one."""
        self._refresh()
        ident, _, secret = token.removeprefix("ob_").partition(".")
        entry = self._entries.get(ident)
        # Compare even when the id is unknown, so that the time taken tells nothing.
        same = hmac.compare_digest(_hash(secret), entry.hash if entry else _hash(""))
        if entry is None or not same or not secret:
            return None
        if entry.expires and _aware(entry.expires) <= (now or datetime.now(UTC)):
            return None
        return Identity(
            entry.name or entry.id, frozenset(entry.scopes), frozenset(entry.namespaces)
        )

    def _refresh(self) -> None:
        """A file that vanished revokes everything; one that doesn't parse changes nothing."""
        if time.monotonic() - self._looked < RELOAD_AFTER:
            return
        self._looked = time.monotonic()
        if (stamp := _stamp(self._path)) == self._stamp:
            return
        try:
            self._entries = {e.id: e for e in _read(self._path).tokens} if stamp else {}
            self._stamp = stamp
        except PermanentError as error:
            log.error("tokens_file_invalid", path=str(self._path), detail=error.detail)


def identity_of(request: Request) -> Identity:
    """Who sends this request; raises `unauthorized`. `app.state.tokens` None: loopback, all."""
    tokens: Tokens | None = request.app.state.tokens
    if tokens is None:
        return LOCAL
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    if kind.lower() != "bearer" or not token:
        raise PermanentError(
            "a bearer token is needed: Authorization: Bearer …", code="unauthorized"
        )
    if (identity := tokens.identify(token.strip())) is None:
        raise PermanentError("the token is unknown, revoked or expired", code="unauthorized")
    return identity


def authorize(request: Request, scope: Scope) -> Identity:
    """Who sends this request, if they have `scope`; raises `unauthorized` or `forbidden`."""
    identity = identity_of(request)
    if not identity.may(scope):
        has = ", ".join(sorted(identity.scopes)) or "none"
        raise PermanentError(
            f"this needs a token with scope {scope!r}; yours has: {has}", code="forbidden"
        )
    return identity


def require(scope: Scope) -> Callable[[Request], Awaitable[Identity]]:
    """A dependency for FastAPI (`Depends(require("read"))`) that gives the Identity."""

    async def dependency(request: Request) -> Identity:
        return authorize(request, scope)

    return dependency


def _hash(secret: str) -> str:
    return "sha256:" + hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _read(path: Path) -> TokenFile:
    try:
        return TokenFile.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise PermanentError(
            f"the tokens file {path} can't be used: {why}", code="invalid_tokens_file"
        ) from error


def _write(path: Path, content: TokenFile) -> None:
    beside = path.with_name(path.name + ".new")
    beside.touch(mode=0o600)
    beside.write_text(content.model_dump_json(indent=2) + "\n")
    beside.replace(path)
