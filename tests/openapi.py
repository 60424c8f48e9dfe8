"""Schemathesis against a running service: does it do what its OpenAPI says?"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BINARY = Path(sys.executable).parent / "schemathesis"


def faults_found(
    url: str,
    folder: Path,
    *,
    token: str | None = None,
    seconds: int = 25,
    exclude: Sequence[str] = (),
    seed: int = 7,
) -> str:
    """What schemathesis found wrong with the service at `url`; empty when that is nothing.

    `exclude`: paths that can't be tried so, as an answer that never ends. Bounded in time.
    """
    command = [
        str(BINARY), "run", f"{url}/openapi.json",
        "--phases", "examples,coverage,fuzzing", "--max-time", str(seconds),
        "--max-examples", "60", "--seed", str(seed), "--request-timeout", "10", "--no-color",
        "--suppress-health-check", "all", "--warnings", "off", "--continue-on-failure",
        "--exclude-checks", "ignored_auth" if token is None else "unsupported_method",
    ]  # fmt: skip
    for path in exclude:
        command += ["--exclude-path", path]
    if token is not None:
        command += ["--header", f"Authorization: Bearer {token}"]
    hooks = {"SCHEMATHESIS_HOOKS": "tests.openapi_hooks", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=folder, env=dict(os.environ) | hooks, capture_output=True, text=True,
        timeout=seconds + 60, check=False,
    )  # fmt: skip
    return "" if done.returncode == 0 else done.stdout + done.stderr
