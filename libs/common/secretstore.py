"""The secrets of one machine, encrypted in its data folder: what `oneblock secret` manages.

`secrets.json` holds one encrypted entry per secret (Fernet: AES-128-CBC with HMAC-SHA256), and
beside it `secrets.key` the key; both for their owner alone. `ONEBLOCK_SECRETS_KEY_FILE` keeps the
key elsewhere, so that a copy of the folder gives nothing away.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from libs.common.errors import PermanentError
from libs.common.secrets import KEY, MAX_BYTES, NAME

if TYPE_CHECKING:
    from cryptography.fernet import Fernet

SHARED = "*"  # the namespace of secrets that every namespace may use


class SecretStore:
    """Small: read and written whole; writers take turns."""

    def __init__(self, home: Path, key_file: Path | None = None) -> None:
        told = os.environ.get("ONEBLOCK_SECRETS_KEY_FILE")
        self._path = home / "secrets.json"
        self._key = key_file or (Path(told) if told else home / "secrets.key")

    def get(self, name: str, namespace: str) -> dict[str, str] | None:
        """A secret of the namespace, else of all; raises PermanentError `invalid_secret`."""
        entries = self._entries()
        for owner in (namespace, SHARED):
            if sealed := entries.get(f"{owner}/{name}"):
                return self._open(f"{owner}/{name}", sealed)
        return None

    def set(self, name: str, values: Mapping[str, str], namespace: str) -> None:
        """Makes or replaces a secret as a whole; raises PermanentError `invalid_secret`."""
        _check(name, values, namespace)
        place = f"{namespace}/{name}"
        with self._alone():
            box = self._box(make=True)
            sealed = box.encrypt(orjson.dumps({"place": place, "values": dict(values)})).decode()
            self._write(self._entries() | {place: sealed})

    def remove(self, name: str, namespace: str) -> bool:
        """Whether there was one."""
        with self._alone():
            entries = self._entries()
            gone = entries.pop(f"{namespace}/{name}", None)
            if gone is not None:
                self._write(entries)
        return gone is not None

    def list(self) -> list[tuple[str, str, tuple[str, ...]]]:
        """Namespace, name and the names of the values, sorted; never the values."""
        entries = sorted(self._entries().items())
        opened = ((place, tuple(sorted(self._open(place, sealed)))) for place, sealed in entries)
        return [(*_parts(place), keys) for place, keys in opened]

    def _entries(self) -> dict[str, str]:
        try:
            entries: dict[str, str] = orjson.loads(self._path.read_bytes())["secrets"]
        except FileNotFoundError:
            return {}
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise _wrong(f"{self._path} is damaged") from error
        return entries

    def _open(self, place: str, sealed: str) -> dict[str, str]:
        from cryptography.fernet import InvalidToken

        try:
            opened = orjson.loads(self._box().decrypt(sealed.encode()))
        except InvalidToken:
            raise _wrong(f"{place} can't be opened with the key in {self._key}") from None
        if opened["place"] != place:  # moved by hand under another name
            raise _wrong(f"the entry {place} belongs to another secret")
        values: dict[str, str] = opened["values"]
        return values

    def _box(self, *, make: bool = False) -> Fernet:
        from cryptography.fernet import Fernet

        if make and not self._key.exists():
            _private(self._key, Fernet.generate_key())
        try:
            return Fernet(self._key.read_bytes().strip())
        except FileNotFoundError as error:
            raise _wrong(f"its key {self._key} is gone") from error
        except ValueError:
            raise _wrong(f"{self._key} holds no key") from None

    def _write(self, entries: Mapping[str, str]) -> None:
        _private(self._path, orjson.dumps({"secrets": entries}, option=orjson.OPT_INDENT_2))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._path.with_suffix(".lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _check(name: str, values: Mapping[str, str], namespace: str) -> None:
    for text in (name,) if namespace == SHARED else (name, namespace):
        if not NAME.fullmatch(text):
            raise _wrong(f"{text!r}: names have lower-case letters, digits, '-' and '.'")
    if not values:
        raise _wrong(f"secret {name!r} has no values; give KEY=VALUE")
    for key, value in values.items():
        if not KEY.fullmatch(key):
            raise _wrong(f"{key!r}: names of values have letters, digits, '.', '-' and '_'")
        if len(value.encode()) > MAX_BYTES:
            raise _wrong(f"the value {key!r} is longer than {MAX_BYTES:,} bytes")


def _parts(place: str) -> tuple[str, str]:
    namespace, _, name = place.partition("/")
    return namespace, name


def _private(path: Path, content: bytes) -> None:
    """A file for its owner alone, there whole or not at all."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def _wrong(detail: str) -> PermanentError:
    return PermanentError(detail, code="invalid_secret")
