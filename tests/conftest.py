"""How the tests are spread over processes: a file stays together, and so does an `xdist_group`.

`--dist loadgroup` of pytest-xdist 3.8 doesn't group with pytest 9.2, which keeps node ids
elsewhere; so the lanes are made here, from what each file says of itself.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

GROUP = re.compile(r'xdist_group\("([^"]+)"\)')
ROOT = Path(__file__).parent.parent


class Lanes(LoadScopeScheduling):
    """Tests of one file, or of files that name the same group, run in one process, in order."""

    def _split_scope(self, nodeid: str) -> str:
        return lane(nodeid.partition("::")[0])


@cache
def lane(file: str) -> str:
    """The group that the file names, else the file."""
    found = GROUP.search((ROOT / file).read_text())
    return found[1] if found else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Lanes:
    return Lanes(config, log)
