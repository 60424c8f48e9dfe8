"""Every source × every format × both engines: each value as it was in the file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.sources import CELLS, Cell, Places, open_places
from tests.kinds import KINDS, Row

pytestmark = [
    pytest.mark.xdist_group("ray"),
    pytest.mark.slow,
    pytest.mark.ray,
    pytest.mark.timeout(240),
]


@pytest.fixture(scope="module")
def places() -> Iterator[Places]:
    """All cells have been asked for; they are worked on while the first is looked at."""
    with open_places({}) as found:
        found.begin()
        yield found


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
def test_every_value_arrives(places: Places, cell: Cell) -> None:
    run = places.ended(cell.name)
    assert (run.state, run.version) == ("succeeded", 1), run.error_detail
    kind = KINDS[cell.kind]
    found = kind.sorted(places.rows(cell.name))
    wanted = kind.wanted(folders=cell.source != "http")
    assert found == wanted
    assert [types(row) for row in found] == [types(row) for row in wanted]
    with places.stack.client() as client:
        (version,) = client.versions(cell.name)
        assert (version.engine, version.rows) == (cell.engine, len(found))
        assert client.rows(cell.name, limit=1).num_rows_total == len(found)


def types(row: Row) -> dict[str, type]:
    """Of each value: to Python `True == 1 == 1.0`."""
    return {name: type(value) for name, value in row.items()}
