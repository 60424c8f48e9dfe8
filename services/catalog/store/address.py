"""Where the database is: one URL, checked before anything connects."""

from __future__ import annotations

import os
from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from libs.common.errors import PermanentError

SETTING = "ONEBLOCK_CATALOG_DB"
DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}
NETWORK = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "fuse.glusterfs", "ceph"}
MOUNTS = Path("/proc/self/mounts")


def database_url(text: str) -> URL:
    """`sqlite:////abs/file.db` or `postgresql://…`, with the driver that we use.

    Raises PermanentError `invalid_setting`; the text, which may hold a password, isn't repeated.
    """
    try:
        url = make_url(text)
    except ArgumentError as error:
        raise _invalid("not a database URL") from error
    kind = {"postgres": "postgresql"}.get(name := url.get_backend_name(), name)
    if kind not in DRIVERS:
        raise _invalid(f"unknown database {kind!r}; known: {', '.join(sorted(DRIVERS))}")
    url = url.set(drivername=DRIVERS[kind])
    if "sslmode" in url.query:  # libpq's word; asyncpg says ssl
        mode = url.query["sslmode"]
        url = url.difference_update_query(["sslmode"]).update_query_dict({"ssl": mode})
    return url


def prepare_file(url: URL) -> Path:
    """The SQLite file, which only its owner may read; made where it is absent."""
    if not url.database or url.database == ":memory:" or not Path(url.database).is_absolute():
        raise _invalid("SQLite needs the absolute path of a file: sqlite:////var/lib/catalog.db")
    path = Path(url.database)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if (kind := _filesystem(path.parent)) in NETWORK:
            raise _invalid(f"SQLite on a network file system ({kind}) loses data; use a local disk")
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        path.chmod(0o600)
    except OSError as error:
        raise _invalid(f"{path} can't be used: {error.strerror}") from error
    return path


def _filesystem(folder: Path) -> str:
    """The type of the file system that holds a folder; empty where the system doesn't tell."""
    if not MOUNTS.is_file():
        return ""
    real = folder.resolve()
    mounts = (line.split()[1:3] for line in MOUNTS.read_text().splitlines())
    holding = [(at, kind) for at, kind in mounts if real.is_relative_to(_unescaped(at))]
    return max(holding, key=lambda found: len(found[0]), default=("", ""))[1]


def _unescaped(mount: str) -> str:
    return mount.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")


def _invalid(detail: str) -> PermanentError:
    return PermanentError(f"{SETTING}: {detail}", code="invalid_setting", path=SETTING)
