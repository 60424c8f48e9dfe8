"""`type: auto`: the one type of a dataset's files, by names first and by content second."""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO

from libs.common import manifest
from libs.common.errors import PermanentError
from libs.common.manifest import DataSet
from libs.formats._detection import HEAD, SUFFIXES, by_content, by_name
from libs.stores import SourceInfo
from libs.stores._archives import Kind

AUTO = "auto"
PATH = "spec.source.type"
LOOKED_INTO = 20  # files whose names don't tell; should more come, they are taken for the same
KNOWN = ", ".join(sorted(SUFFIXES))

Open = Callable[[SourceInfo], BinaryIO]


class Detection:
    """Sees the files of a listing one by one; ends it when they don't go together.

    `open`: a listed file in its listed state.
    """

    def __init__(self, open: Open) -> None:
        self._open = open
        self._looked_into = 0
        self._first = ""  # path of the file that the type comes from
        self.type = ""  # as far as it was seen

    def see(self, file: SourceInfo) -> None:
        """Raises PermanentError `mixed_types`, `unknown_type`, and what opening raises."""
        kind = by_name(file.path) or self._within(file)
        if kind and not self.type:
            self.type, self._first = kind, file.path
        elif kind and kind != self.type:
            raise self._mixed(file.path, kind)

    def glimpse(self, file: SourceInfo) -> None:
        """As `see`, of a file that isn't opened yet though it is compressed, or an archive."""
        outer = Kind.of(file.path)
        if outer is None:
            self.see(file)
        elif not outer.container and by_name(inner := outer.inner(file.path)):
            self.see(SourceInfo(file.uri, inner, file.size))

    def found(self) -> str:
        """The type of all; raises PermanentError `unknown_type`."""
        if not self.type:
            raise PermanentError(
                f"no file tells by its name or content what it is; say it: source.type ({KNOWN})",
                code="unknown_type",
                path=PATH,
            )
        return self.type

    def _within(self, file: SourceInfo) -> str:
        """By content. A file of nothing tells nothing; its reader says so."""
        if not file.size or self._looked_into >= LOOKED_INTO:
            return ""
        self._looked_into += 1
        with self._open(file) as content:
            head = content.read(HEAD)
        kind, what = by_content(head)
        if head and not kind:
            raise self._unknown(file.path, what)
        return kind

    def _unknown(self, path: str, what: str) -> PermanentError:
        beside = f" (beside {self._first}, which is {self.type})" if self.type else ""
        return PermanentError(
            f"{path}: neither its name nor its content ({what}) tells its type{beside}; say "
            f"source.type ({KNOWN}; binary takes anything), or leave it out with source.filter",
            code="unknown_type",
            path=PATH,
        )

    def _mixed(self, path: str, kind: str) -> PermanentError:
        suffix = SUFFIXES[self.type][0]
        return PermanentError(
            f"the files are of several types: {self._first} is {self.type}, {path} is {kind}; "
            f"narrow them to one with source.filter (such as '*{suffix}'), or say which "
            "source.type reads them all",
            code="mixed_types",
            path=PATH,
        )


def of_type(dataset: DataSet, kind: str) -> dict[str, object]:
    """The manifest as though it had said this type: what the run follows from here."""
    source = dataset.spec.source.model_copy(update={"type": kind})
    spec = dataset.spec.model_copy(update={"source": source})
    return manifest.canonical(dataset.model_copy(update={"spec": spec}))
