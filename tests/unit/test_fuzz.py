"""`make fuzz` really makes up more than `make test`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SAY = "from tests.fuzz import relaxed, seeds; print(relaxed(40).max_examples, *seeds(2))"


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({}, "40 0 1"),
        ({"ONEBLOCK_FUZZ": "2"}, "80 0 1 2 3"),
        ({"ONEBLOCK_FUZZ": "2", "ONEBLOCK_FUZZ_SEED": "7"}, "80 7 8 9 10"),
        ({"ONEBLOCK_FUZZ": ""}, "40 0 1"),
    ],
)
def test_the_environment_multiplies_inputs(env: dict[str, str], said: str) -> None:
    bare = {name: v for name, v in os.environ.items() if not name.startswith("ONEBLOCK_FUZZ")}
    words = [sys.executable, "-c", SAY]
    done = subprocess.run(words, cwd=ROOT, env=bare | env, capture_output=True, text=True)
    assert done.stdout.strip() == said, done.stderr


def test_make_fuzz_asks_for_more() -> None:
    words = ["make", "-n", "-o", ".venv/.ready", "fuzz", "FUZZ=3", "FUZZ_SEED=5"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert "ONEBLOCK_FUZZ=3 ONEBLOCK_FUZZ_SEED=5" in done.stdout, done.stderr
    assert "-m fuzz" in done.stdout
