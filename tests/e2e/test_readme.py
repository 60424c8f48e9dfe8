"""Every command of the README does what the README says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.stack import EmbeddedStack, embedded_stack

pytestmark = [pytest.mark.xdist_group("readme"), pytest.mark.slow]

REPOSITORY = Path(__file__).parents[2]
README = (REPOSITORY / "README.md").read_text()


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.M | re.S)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStack]:
    with embedded_stack(tmp_path_factory.mktemp("readme") / "home") as found:
        yield found


def bash(script: str, stack: EmbeddedStack, folder: Path) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env={**stack.env, "PATH": path},
        capture_output=True,
        text=True,
        timeout=240,
    )


def test_the_commands_work_one_after_the_other(stack: EmbeddedStack, tmp_path: Path) -> None:
    """`make` targets are told apart: they run in the repository and have tests of their own."""
    commands = [b for b in blocks("sh") if not b.startswith("make ")]
    script = "\n".join(commands)
    done = bash(script, stack, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "cheese" in done.stdout
    assert "up to date" in done.stdout
    assert re.search(r"^v2\b", done.stdout, flags=re.M), "the changed file makes a version 2"
    assert (tmp_path / "first" / "out").exists()


def test_the_python_example_works(stack: EmbeddedStack, tmp_path: Path) -> None:
    first = next(b for b in blocks("sh") if "prices.yaml" in b)
    files_alone = first.split("oneblock apply")[0]
    assert bash(files_alone, stack, tmp_path).returncode == 0
    (example,) = blocks("python")
    done = subprocess.run(
        [sys.executable, "-c", example],
        cwd=tmp_path / "first",
        env=stack.env,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "'name': 'cheese'" in done.stdout


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
def test_every_make_target_that_is_named_exists() -> None:
    named = set(re.findall(r"`make (\w+)`|^make (\w+)$", README, flags=re.M))
    targets = {a or b for a, b in named}
    assert {"demo", "up", "down", "check", "test", "bench"} <= targets
    for target in sorted(targets):
        command = ["make", "--dry-run", target]
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_every_file_that_is_linked_exists() -> None:
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", README):
        assert (REPOSITORY / link).exists(), link
