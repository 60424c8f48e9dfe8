"""Credentials by name: resolved where they are used, and in no text of ours.

A secret is a few named values. Places are looked through in this order, the first that has it wins:

1. files, as Kubernetes mounts a Secret: `<folder>/<namespace>/<name>/<key>`, then
   `<folder>/<name>/<key>` for every namespace; folders in `ONEBLOCK_SECRETS_DIR` (default
   `/etc/oneblock/secrets`), separated by `:`
2. the environment: `ONEBLOCK_SECRET_<NAMESPACE>__<NAME>__<KEY>`, then
   `ONEBLOCK_SECRET_<NAME>__<KEY>`, in upper case, every other character a `_`
3. the encrypted store of this machine, see libs.common.secretstore
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from libs.common.errors import PermanentError

DEFAULT_FOLDER = "/etc/oneblock/secrets"
PREFIX = "ONEBLOCK_SECRET_"
MAX_BYTES = 1 << 20  # of one value; what Kubernetes allows a whole Secret
NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")  # as the manifest allows names
KEY = re.compile(r"[A-Za-z0-9._-]{1,253}")


class Secret(Mapping[str, str]):
    """The values of a secret; shown, it tells their names alone."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = dict(values)

    def __getitem__(self, key: str) -> str:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Secret({', '.join(sorted(self._values))})"

    def __reduce__(self) -> str:
        raise TypeError("a secret stays where it was resolved; send its name")

    def first(self, *keys: str) -> str | None:
        """The value of the first of these names that there is; names are told apart loosely."""
        known = {_loose(key): value for key, value in self._values.items()}
        return next((known[_loose(key)] for key in keys if known.get(_loose(key))), None)


@dataclass(frozen=True)
class Places:
    """Where secrets are looked for."""

    folders: tuple[Path, ...] = ()
    environment: Mapping[str, str] | None = None
    home: Path | None = None  # the data folder that has an encrypted store

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Places:
        """As the environment says."""
        told = environment.get("ONEBLOCK_SECRETS_DIR", DEFAULT_FOLDER)
        home = environment.get("ONEBLOCK_HOME")
        folders = tuple(Path(folder) for folder in told.split(":") if folder)
        return cls(folders, environment, Path(home) if home else None)

    def __repr__(self) -> str:  # the environment may hold values
        return f"Places({', '.join(map(str, self.folders))})"


def resolve(name: str, namespace: str, places: Places | None = None) -> Secret:
    """The secret that a manifest of `namespace` names; None: where the environment says.

    Raises PermanentError `secret_not_found`, `invalid_secret`. Blocks for a file or two.
    """
    places = places or Places.of(os.environ)
    if not NAME.fullmatch(name) or not NAME.fullmatch(namespace):
        raise _absent(name, namespace)
    for found in (
        _from_files(name, namespace, places.folders),
        _from_environment(name, namespace, places.environment or {}),
        _from_store(name, namespace, places.home),
    ):
        if found:
            return Secret(found)
    raise _absent(name, namespace)


def _from_files(name: str, namespace: str, folders: tuple[Path, ...]) -> dict[str, str]:
    for folder in (f / below for f in folders for below in (f"{namespace}/{name}", name)):
        try:
            found = {
                path.name: _read(path, name)
                for path in sorted(folder.iterdir())
                if not path.name.startswith("..") and path.is_file()  # `..data` is Kubernetes' own
            }
        except (FileNotFoundError, NotADirectoryError):
            continue
        except PermissionError as error:
            raise _unreadable(name, f"{folder} may not be read by this process") from error
        if found:
            return found
    return {}


def _read(path: Path, name: str) -> str:
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise _unreadable(name, f"the value {path.name!r} is longer than {MAX_BYTES:,} bytes")
    try:
        return content.decode().rstrip("\r\n")  # editors and `echo` end a file with a newline
    except UnicodeDecodeError:
        raise _unreadable(name, f"the value {path.name!r} is no text") from None


def _from_environment(name: str, namespace: str, environment: Mapping[str, str]) -> dict[str, str]:
    """`__` parts names from each other: who has it inside can't be told from two names."""
    for parts in ((namespace, name), (name,)):
        words = [_variable(part) for part in parts]
        if any("__" in word or word.startswith("_") or word.endswith("_") for word in words):
            continue
        start = PREFIX + "".join(f"{word}__" for word in words)
        found = {
            variable.removeprefix(start).lower(): value
            for variable, value in environment.items()
            if variable.startswith(start) and "__" not in variable.removeprefix(start)
        }
        if found:
            return found
    return {}


def _from_store(name: str, namespace: str, home: Path | None) -> dict[str, str]:
    if home is None or not (home / "secrets.json").exists():
        return {}
    from libs.common.secretstore import SecretStore  # cryptography: only where there is a store

    return SecretStore(home).get(name, namespace) or {}


def _variable(text: str) -> str:
    return re.sub(r"[^A-Z0-9]", "_", text.upper())


def _loose(key: str) -> str:
    """`AWS_ACCESS_KEY_ID`, `accessKeyId` and `access-key-id` are the same name to people."""
    return re.sub(r"[^a-z0-9]", "", key.lower()).removeprefix("aws")


def _absent(name: str, namespace: str) -> PermanentError:
    where = "" if namespace == "default" else f" --namespace {namespace}"
    return PermanentError(
        f"no secret {name!r} for the namespace {namespace!r}; make it with `oneblock secret set "
        f"{name} KEY=…{where}`, or mount it below ONEBLOCK_SECRETS_DIR",
        code="secret_not_found",
        path="secretRef",
    )


def _unreadable(name: str, why: str) -> PermanentError:
    return PermanentError(f"secret {name!r}: {why}", code="invalid_secret", path="secretRef")
