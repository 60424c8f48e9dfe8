"""Which ports the stack takes: fixed ones unless told, and never somebody else's."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterable, Mapping

import psutil
from oneblock.errors import OneBlockError

DEFAULTS: Mapping[str, int] = {
    "catalog": 8080,
    "ingest": 8081,
    "transform": 8082,
    "sink": 8083,
    "nats": 4222,
    "ray": 10001,
}
# Below what Linux and macOS hand out to outgoing connections, above what Ray's client servers
# take (23000 to 24000): what is free now stays free.
FREE = range(24_100, 32_000)


class PortsInUse(OneBlockError):
    """Some of the ports that the stack needs are taken."""

    code = "ports_in_use"


def choose(base: int | None, names: Iterable[str]) -> dict[str, int]:
    """Port by name: the defaults, `base` and the following ones, or for 0 any free ones.

    Raises PortsInUse that names each port that is taken, and who has it.
    """
    wanted = list(names)
    if base == 0:
        return free(wanted)
    ports = {name: DEFAULTS[name] if base is None else base + i for i, name in enumerate(wanted)}
    if taken := {name: port for name, port in ports.items() if not is_free(port)}:
        told = "; ".join(f"{port} ({name}) by {holder(port)}" for name, port in taken.items())
        raise PortsInUse(
            f"ports in use: {told}",
            hint="stop what uses them, or take free ones with `oneblock up --port 0`",
        )
    return ports


def free(names: Iterable[str]) -> dict[str, int]:
    """A free port for each name."""
    found: dict[str, int] = {}
    for name in names:
        candidates = (p for p in iter(lambda: random.choice(FREE), None))
        found[name] = next(p for p in candidates if p not in found.values() and is_free(p))
    return found


def is_free(port: int) -> bool:
    """Whether somebody can listen there, on loopback and on every address."""
    for host in ("127.0.0.1", "0.0.0.0"):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                return False
    return True


def holder(port: int) -> str:
    """Who listens on a port, as far as the system tells."""
    try:
        found = psutil.net_connections("tcp")
    except psutil.AccessDenied:
        return "another process"
    for entry in found:
        listens = entry.status == psutil.CONN_LISTEN and entry.laddr and entry.laddr.port == port
        if listens and entry.pid:
            try:
                return f"{psutil.Process(entry.pid).name()} (pid {entry.pid})"
            except psutil.Error:
                break
    return "another process"
