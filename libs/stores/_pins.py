"""The state of a file that a run reads, as one text that travels in plans and tasks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Pin:
    """What was listed; reading anything else is `source_changed`."""

    etag: str = ""  # empty: there is but one state
    size: int = -1  # bytes; negative: not known
    version_id: str = ""  # where the store keeps old states: this one is read

    def text(self) -> str:
        """`etag#size#version`; neither etags nor version ids have a `#`."""
        return f"{self.etag}#{self.size}#{self.version_id}"

    @classmethod
    def parse(cls, text: str) -> Pin:
        """Of `text()`; an etag alone is a pin too."""
        etag, _, rest = text.partition("#")
        size, _, version = rest.partition("#")
        return cls(etag, int(size or -1), version)
