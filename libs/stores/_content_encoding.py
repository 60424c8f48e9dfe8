"""Content-Encoding: gzip, undone while it comes, within limits."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from libs.common.errors import PermanentError
from libs.stores._guard import BLOCK, Answer

GZIP = frozenset({"gzip", "x-gzip"})
BY_THEMSELVES = (".gz", ".tgz")  # names of what is gzip without any encoding
RATIO, FREE = 100, 64 << 20  # made of received, once more than FREE bytes were made


def decoder(answer: Answer, name: str) -> Gunzip | None:
    """What undoes the answer's encoding; raises PermanentError `bad_response` for an unknown one.

    Servers label .gz files as encoded that are meant to stay as they are: those stay.
    """
    said = answer.headers.get("content-encoding", "").strip().lower()
    if said in ("", "identity") or (said in GZIP and name.lower().endswith(BY_THEMSELVES)):
        return None
    if said not in GZIP:
        raise PermanentError(
            f"{answer.name}: Content-Encoding {said[:40]!r}, which was not asked for; "
            "known: gzip, identity",
            code="bad_response",
        )
    return Gunzip(answer.name, answer.limit)


class Gunzip:
    """One layer of gzip, of one member or several."""

    def __init__(self, name: str, limit: int) -> None:
        self._name, self._limit = name, limit
        self._came = self._made = 0
        self._inner = zlib.decompressobj(31)

    def parts(self, block: bytes) -> Iterator[bytes]:
        """What a block becomes, up to 1 MiB at a time.

        Raises PermanentError `corrupt_file`, `decompression_limit`.
        """
        self._came += len(block)
        while block:
            try:
                part = self._inner.decompress(block, BLOCK)
            except zlib.error as error:
                raise self._corrupt(str(error)) from error
            self._made += len(part)
            self._check()
            if part:
                yield part
            block = self._rest()

    def finish(self) -> int:
        """How many bytes it became in all; raises `corrupt_file` when the end is missing."""
        if self._came and not self._inner.eof:
            raise self._corrupt("it ends in the middle")
        return self._made

    def _rest(self) -> bytes:
        """What isn't worked on yet; a further member begins a new stream."""
        if not self._inner.eof:
            return self._inner.unconsumed_tail
        rest = self._inner.unused_data.lstrip(b"\0")
        if rest:
            self._inner = zlib.decompressobj(31)
        return rest

    def _check(self) -> None:
        if self._made > self._limit or self._made > FREE + RATIO * self._came:
            raise PermanentError(
                f"{self._name}: {self._came:,} bytes became more than {self._made:,} by gzip",
                code="decompression_limit",
            )

    def _corrupt(self, why: str) -> PermanentError:
        return PermanentError(
            f"{self._name}: sent as gzip, which it is not: {why}", code="corrupt_file"
        )
