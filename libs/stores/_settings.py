"""What the operator allows of the world outside; services and Ray's workers read the same."""

from __future__ import annotations

import ipaddress
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

LOOPBACK = ("127.0.0.0/8", "::1/128")
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Outside(BaseSettings):
    """From `ONEBLOCK_*` variables. Lists are separated by commas or spaces."""

    model_config = SettingsConfigDict(env_prefix="ONEBLOCK_", frozen=True, extra="ignore")

    # Networks (CIDR, or `loopback`) in which an endpoint that a manifest names may lie. Public
    # addresses are allowed, every other one only here: else a manifest could read what is inside.
    private_networks: str = ""
    # NFS servers that a manifest may name: `host`, `host:port`, `*.example.com`. None: none, since
    # NFS trusts the identity that its client tells.
    nfs_servers: str = ""
    # Exports that are mounted here: `host:/export=/local/folder`. They are read through the mount.
    nfs_mounts: str = ""
    nfs_uid: int = 65534  # who we are to NFS servers: nobody
    nfs_gid: int = 65534
    read_patience: float = Field(30.0, gt=0)  # seconds without a byte until a source is unavailable
    read_min_rate: int = Field(16_384, ge=0)  # bytes per second, on average, below which it is slow

    http_ports: str = "80 443"  # that a manifest's http(s) URL may have; `*`: every one
    http_seconds: float = Field(6 * 3600.0, gt=0)  # for one file, redirects and tries included
    http_max_bytes: int = Field(64 << 30, gt=0)  # of one file, after Content-Encoding is undone
    http_ca_file: Path | None = None  # authorities to trust beside the system's, PEM
    archive_max_entries: int = Field(100_000, gt=0)  # of one archive
    archive_max_bytes: int = Field(64 << 30, gt=0)  # of one archive, expanded
    archive_max_ratio: int = Field(100, gt=0)  # expanded to compressed, from 64 MiB on

    def ports(self) -> frozenset[int] | None:
        """The allowed ports; None: every one."""
        words = _words(self.http_ports)
        return None if "*" in words else frozenset(int(word) for word in words)

    def networks(self) -> tuple[Network, ...]:
        """The allowed private networks; raises ValueError for what is no network."""
        words = _words(self.private_networks)
        named = [n for word in words for n in (LOOPBACK if word == "loopback" else (word,))]
        return tuple(ipaddress.ip_network(n, strict=False) for n in named)

    def servers(self) -> tuple[str, ...]:
        """The allowed NFS servers."""
        return tuple(word.lower() for word in _words(self.nfs_servers))

    def mounts(self) -> tuple[tuple[str, str, Path], ...]:
        """Host, export and local folder, the longest export first."""
        found = []
        for word in _words(self.nfs_mounts):
            place, _, folder = word.partition("=")
            host, _, export = place.rpartition(":/")
            found.append((host.lower(), "/" + export.strip("/"), Path(folder)))
        return tuple(sorted(found, key=lambda one: -len(one[1])))


def _words(text: str) -> list[str]:
    return text.replace(",", " ").split()
