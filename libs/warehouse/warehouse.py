"""One folder (later: one bucket) with every dataset, its versions, and the files of its runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa

from libs.common.crashpoints import crash_point
from libs.common.errors import LeaseLost, PermanentError
from libs.warehouse._lance import FragmentMetadata, lance
from libs.warehouse.reader import Reader
from libs.warehouse.rundirs import RunDirs
from libs.warehouse.versions import Commit, Version


class Warehouse(RunDirs):
    """Everything blocks: call it off the event loop."""

    def dataset_uri(self, dataset: str) -> str:
        """Where the Lance dataset of `namespace/name` is."""
        return str(self.root / f"{dataset}.lance")

    # versions

    def versions(self, dataset: str) -> list[Version]:
        """All versions, newest first; none where the dataset doesn't exist yet."""
        head = self._head(dataset)
        return [] if head is None else [v for n in _numbers(head) if (v := _version(head, n))]

    def version(self, dataset: str, number: int | None = None) -> Version | None:
        """One version, the newest by default."""
        head = self._head(dataset)
        if head is None:
            return None
        numbers = _numbers(head)
        wanted = number if number is not None else next(iter(numbers), None)
        return _version(head, wanted) if wanted in numbers else None

    def open(self, dataset: str, number: int | None = None) -> Reader:
        """Opens a version (default: the newest); raises PermanentError `not_found`."""
        version = self.version(dataset, number)
        if version is None:
            what = f"{dataset}@v{number}" if number else f"{dataset} has no version yet"
            raise PermanentError(f"{what}: not found", code="not_found")
        opened = lance.dataset(self.dataset_uri(dataset), version=version.lance_version)
        return Reader(opened, version)

    def committed(self, dataset: str, run: str) -> Version | None:
        """The version that this run made, if it did; finishes one whose tag never came."""
        head = self._head(dataset)
        if head is None:
            return None
        commit = Commit.parse(_properties(head, head.version))
        tagged = {tag["version"] for tag in head.tags.list().values()}
        if commit is not None and commit.run == run and head.version not in tagged:
            return _tag(head, commit)
        found = (v for n in _numbers(head) if (v := _version(head, n)))
        return next((v for v in found if v.commit.run == run), None)

    def begin(self, dataset: str) -> None:
        """Rolls back commits whose tag never came, so that they never become part of a version."""
        head = self._head(dataset)
        if head is None:
            return
        numbers = _numbers(head)
        newest = head.tags.get_version(f"v{numbers[0]}") if numbers else None
        if newest is not None and head.version != newest and not _restored(head, newest):
            lance.dataset(self.dataset_uri(dataset), version=newest).restore()

    def commit(
        self,
        dataset: str,
        fragments: Sequence[str],
        schema: pa.Schema,
        commit: Commit,
        check: Callable[[], None] = lambda: None,
    ) -> Version:
        """Phase two: makes the fragments the next version, whole or not at all.

        `check` is called last and raises LeaseLost when another attempt took over.
        """
        head = self._head(dataset)
        operation = lance.LanceOperation.Overwrite(
            schema, [FragmentMetadata.from_json(f) for f in fragments]
        )
        transaction = lance.Transaction(
            0 if head is None else head.version,
            operation,
            transaction_properties=commit.properties(),
        )
        check()
        crash_point("before_commit")
        done = lance.LanceDataset.commit(
            self.dataset_uri(dataset), transaction, enable_stable_row_ids=True
        )
        crash_point("after_commit_before_tag")
        check()
        version = _tag(done, commit)
        crash_point("after_tag")
        return version

    def sweep(self, dataset: str) -> int:
        """Removes fragments and commits that no version uses; returns the bytes freed.

        Only under the dataset's lease, and when no worker of an earlier attempt still writes.
        """
        head = self._head(dataset)
        if head is None:
            return 0
        stats = head.cleanup_old_versions(
            older_than=timedelta(0), delete_unverified=True, error_if_tagged_old_versions=False
        )
        freed: int = stats.bytes_removed
        return freed

    def _head(self, dataset: str) -> lance.LanceDataset | None:
        uri = self.dataset_uri(dataset)
        if not (Path(uri) / "_versions").is_dir():
            return None
        return lance.dataset(uri)


def _numbers(head: lance.LanceDataset) -> list[int]:
    names = (name[1:] for name in head.tags.list() if name.startswith("v"))
    return sorted((int(n) for n in names if n.isdigit()), reverse=True)


def _properties(head: lance.LanceDataset, lance_version: int) -> dict[str, str] | None:
    transaction = head.read_transaction(lance_version)
    return None if transaction is None else transaction.transaction_properties


def _version(head: lance.LanceDataset, number: int) -> Version | None:
    tag = head.tags.list()[f"v{number}"]
    commit = Commit.parse(_properties(head, tag["version"]))
    if commit is None:
        return None
    created: datetime = tag["created_at"]
    return Version(number, created.astimezone(UTC), tag["version"], commit)


def _tag(head: lance.LanceDataset, commit: Commit) -> Version:
    """Tags the commit as the next version; a tag is created once, so a slow rival loses."""
    number = next(iter(_numbers(head)), 0) + 1
    try:
        head.tags.create(f"v{number}", head.version)
    except ValueError as error:
        if "already exists" not in str(error):
            raise
        raise LeaseLost(commit.run) from error
    version = _version(head, number)
    assert version is not None  # just tagged, with our properties
    return version


def _restored(head: lance.LanceDataset, version: int) -> bool:
    """Whether the head is already nothing but a restore of `version`."""
    transaction = head.read_transaction(head.version)
    operation = None if transaction is None else transaction.operation
    return isinstance(operation, lance.LanceOperation.Restore) and operation.version == version
