"""From a bucket and from NFS to rows: listed by ingest, read by workers, values as they were."""

from __future__ import annotations

import io
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pcsv
import pyarrow.parquet as pq
import pytest

from libs.common.errors import OneBlockError, PermanentError
from libs.common.secretstore import SecretStore
from services.transform.engines._ray_link import Link
from services.transform.engines._ray_words import Terms
from services.transform.engines.local import Local
from services.transform.engines.ray import Ray
from tests.nfs import NfsServer, nfs_server
from tests.objectstore import ADMIN, BUCKET, ObjectStore, object_store
from tests.plans import run
from tests.ray_head import ray_head
from tests.reading import Reading

pytestmark = pytest.mark.xdist_group("ray")  # one Ray head at a time

ROWS = 30_000
TABLE = pa.table(
    {
        "id": pa.array(range(ROWS), pa.int64()),
        "name": [f"n{i % 97} é" for i in range(ROWS)],
        "price": [i / 4 for i in range(ROWS)],
    }
)
SECRET = ADMIN[1]


def as_csv(table: pa.Table) -> bytes:
    out = io.BytesIO()
    pcsv.write_csv(table, out)
    return out.getvalue()


def as_parquet(table: pa.Table) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out, row_group_size=5_000)
    return out.getvalue()


def as_jsonl(table: pa.Table) -> bytes:
    import orjson

    return b"".join(orjson.dumps(row) + b"\n" for row in table.to_pylist())


WRITERS: dict[str, Callable[[pa.Table], bytes]] = {
    "csv": as_csv,
    "parquet": as_parquet,
    "jsonl": as_jsonl,
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    values = {"access_key_id": ADMIN[0], "secret_access_key": SECRET}
    SecretStore(folder).set("bucket", values, "default")
    return folder


@pytest.fixture(scope="module")
def engine(home: Path) -> Iterator[Local]:
    """Workers that know what services know: from the environment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ONEBLOCK_HOME", str(home))
        patch.setenv("ONEBLOCK_PRIVATE_NETWORKS", "loopback")
        patch.setenv("ONEBLOCK_NFS_SERVERS", "127.0.0.1")
        patch.setenv("ONEBLOCK_READ_PATIENCE", "5")
        found = Local(workers=2, tries=2)
        found.start()
        yield found
        found.stop()


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    with object_store(tmp_path_factory.mktemp("weed")) as store:
        yield store


@pytest.fixture(scope="module")
def nfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NfsServer]:
    with nfs_server(tmp_path_factory.mktemp("nfs")) as server:
        for kind, write in WRITERS.items():
            for name, table in parts():
                server.put(f"exp/{kind}/{name}.{kind}", write(table))
        yield server


@pytest.fixture(scope="module")
def cluster() -> Iterator[Ray]:
    """Workers of a cluster that has what they need to know in its own environment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ONEBLOCK_SECRET_BUCKET__ACCESS_KEY_ID", ADMIN[0])
        patch.setenv("ONEBLOCK_SECRET_BUCKET__SECRET_ACCESS_KEY", SECRET)
        patch.setenv("ONEBLOCK_PRIVATE_NETWORKS", "loopback")
        patch.setenv("ONEBLOCK_NFS_SERVERS", "127.0.0.1")
        with ray_head() as head:
            terms = Terms(deadline=120, linger=5, tries=2)
            found = Ray(Link(head.address, lambda: head.token), 60, terms)
            found.start()
            yield found
            found.stop()


def parts() -> Iterator[tuple[str, pa.Table]]:
    yield "one", TABLE.slice(0, ROWS // 3)
    yield "sub/two", TABLE.slice(ROWS // 3)


def same(found: pa.Table) -> bool:
    return bool(found.sort_by("id").select(TABLE.column_names).equals(TABLE))


@pytest.mark.parametrize("kind", list(WRITERS))
def test_a_bucket_becomes_rows(s3: ObjectStore, engine: Local, tmp_path: Path, kind: str) -> None:
    for name, table in parts():
        s3.put(f"{kind}/{name}.{kind}", WRITERS[kind](table))
    source = {
        "type": kind,
        "url": f"s3://{BUCKET}/{kind}/",
        "secretRef": {"name": "bucket"},
        "options": {"endpoint": s3.endpoint},
    }
    assert same(Reading(tmp_path).rows(source, engine))


@pytest.mark.parametrize("kind", list(WRITERS))
def test_an_export_becomes_rows(nfs: NfsServer, engine: Local, tmp_path: Path, kind: str) -> None:
    source = {"type": kind, "url": f"{nfs.url}/exp/{kind}/**/*.{kind}?version=3"}
    assert same(Reading(tmp_path).rows(source, engine))


@pytest.mark.ray
def test_a_bucket_and_an_export_become_rows_on_ray(
    s3: ObjectStore, nfs: NfsServer, cluster: Ray, tmp_path: Path
) -> None:
    first, _ = parts()
    s3.put("ray/one.csv", as_csv(first[1]))
    source = {
        "type": "csv",
        "url": [f"s3://{BUCKET}/ray/", f"{nfs.url}/exp/csv/sub/two.csv"],
        "secretRef": {"name": "bucket"},
        "options": {"endpoint": s3.endpoint},
    }
    assert same(Reading(tmp_path).rows(source, cluster))


def test_an_object_that_changed_since_it_was_listed_fails_the_run(
    s3: ObjectStore, engine: Local, tmp_path: Path
) -> None:
    s3.put("later/x.csv", as_csv(TABLE))
    source = {
        "type": "csv",
        "url": f"s3://{BUCKET}/later/x.csv",
        "secretRef": {"name": "bucket"},
        "options": {"endpoint": s3.endpoint},
    }
    plan = Reading(tmp_path).plan(source)
    s3.put("later/x.csv", as_csv(TABLE.slice(1)))
    with pytest.raises(PermanentError) as caught:
        run(engine, plan)
    assert caught.value.code == "source_changed"
    assert "later/x.csv" in caught.value.detail


def test_no_secret_is_in_anything_that_is_written_sent_or_said(
    s3: ObjectStore, engine: Local, tmp_path: Path, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    s3.put("said/x.csv", as_csv(TABLE))
    reading, said = Reading(tmp_path), ""
    source = {
        "type": "csv",
        "url": f"s3://{BUCKET}/said",
        "secretRef": {"name": "bucket"},
        "options": {"endpoint": s3.endpoint},
    }
    caplog.set_level("DEBUG")
    plan = reading.plan(source)
    said += plan.model_dump_json()
    assert '"bucket"' in said  # by its name alone
    run(engine, plan)
    for wrong in ({"url": "s3://nobucket/x"}, {"options": {"endpoint": "http://127.0.0.1:1"}}):
        with pytest.raises(OneBlockError) as caught:
            Reading(tmp_path, "y").plan({**source, **wrong})
        said += "".join(traceback.format_exception(caught.value)) + repr(caught.value.problems)
    said += caplog.text
    kept = [p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()]
    assert len(kept) > 5
    for text in (*kept, said.encode(), *(p.read_bytes() for p in home.iterdir())):
        assert SECRET.encode() not in text
        assert ADMIN[0].encode() not in text
