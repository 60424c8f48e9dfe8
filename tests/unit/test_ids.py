"""Ids come from content; these values may never change, for stored data is found by them."""

from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from libs.common.ids import digest, event_id, run_id, source_id

# A busy machine is no failure.
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

GOLDEN: list[tuple[object, str]] = [
    (None, "dc32537e27486e2c652e7b35ccc22eda"),
    ({}, "dc7048f8f8747f561349cde127705c16"),
    ({"b": [1, 2.5, True], "a": "größe"}, "34be1a1eb3f2b88ffeb8d008e79438a5"),
    (["a", {"x": None}], "d2fa8cda6f2b983e522a417dc24fc348"),
]


@pytest.mark.parametrize(("value", "expected"), GOLDEN)
def test_digests_never_change(value: object, expected: str) -> None:
    assert digest(value) == expected


def test_derived_ids_never_change() -> None:
    assert (
        event_id("oneblock.ingest.cancel", {"run": "run-1"}) == "4666493dadb1987b306779dd1546ce75"
    )
    assert run_id("8f14e45f-ceea-4e7f-a9d1-0b1f0a1b2c3d") == "run-7516b56b3ca72798de8c"
    assert source_id("file:///data/größe.csv") == 1197176706903742840
    assert source_id("upload://4f0c/cars.csv") == 3400340914335309692


KEYS = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=8)


@PATIENT
@given(st.dictionaries(KEYS, st.integers(-(2**53), 2**53)))
def test_the_order_of_keys_does_not_matter(value: dict[str, int]) -> None:
    assert digest(value) == digest(dict(reversed(value.items())))


@pytest.mark.parametrize(
    ("one", "other"), [([1, 2], [2, 1]), ({"a": None}, {}), (1, "1"), (1, 1.0), ("", None)]
)
def test_different_values_have_different_digests(one: object, other: object) -> None:
    assert digest(one) != digest(other)


def test_the_kind_is_part_of_an_events_id() -> None:
    assert event_id("a", {"x": 1}) != event_id("b", {"x": 1})


@PATIENT
@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_a_run_id_is_a_dns_label(request: str) -> None:
    assert re.fullmatch(r"run-[0-9a-f]{20}", run_id(request))
    assert run_id(request) == run_id(request)


@PATIENT
@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_a_source_id_fits_a_signed_64_bit_column(uri: str) -> None:
    assert -(2**63) <= source_id(uri) < 2**63
