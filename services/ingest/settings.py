"""Settings of ingest, read once from `ONEBLOCK_*` variables."""

from __future__ import annotations

from pathlib import Path

from libs.common.settings import CommonSettings
from libs.stores import Access
from libs.warehouse import RunDirs

GIB = 1 << 30


class IngestSettings(CommonSettings):
    """Beside what every service reads."""

    file_roots: str = ""  # folders below which file:// may read, separated by ":"; none: nothing
    max_upload_bytes: int = 64 * GIB  # of one upload; a longer one answers 413
    max_uploads: int = 16  # at the same time; each holds two buffers of 4 MiB at most
    upload_idle_seconds: float = 60.0  # without a byte; then 408
    upload_min_rate: int = 1024  # bytes per second on average, after the first idle period
    upload_keep_seconds: float = 86_400.0  # an unfinished upload is kept after its last byte
    sweep_seconds: float = 20.0  # between two looks for stuck runs
    resume_after_seconds: float = 30.0  # an accepted run without an inventory counts as stuck
    give_up_seconds: float = 3600.0  # … and has failed when even that didn't help
    local_bytes: int = 128 * 1024 * 1024  # the guess of /plan: up to here, the local engine

    def roots(self) -> tuple[Path, ...]:
        """The allowed folders, absolute."""
        return tuple(Path(root).absolute() for root in self.file_roots.split(":") if root)

    def access(self, warehouse: RunDirs) -> Access:
        """What sources may name: the roots, but never the warehouse itself."""
        return Access(
            roots=self.roots(),
            private=(warehouse.root,),
            uploads=warehouse.path("uploads"),
        )
