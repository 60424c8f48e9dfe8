"""What the catalog reads from its environment; the README lists it."""

from __future__ import annotations

from pathlib import Path

from pydantic import SecretStr

from libs.common.settings import CommonSettings


class CatalogSettings(CommonSettings):
    """`ONEBLOCK_*`, beside those that every service has."""

    port: int = 8080
    home: Path = Path("~/.oneblock")
    catalog_db: SecretStr = SecretStr("")  # sqlite:////abs/file.db or postgresql://…
    ingest_url: str | None = None  # where people reach ingest; told by /v1/config

    @property
    def database_url(self) -> str:
        """The database, by default a file below the data folder."""
        given = self.catalog_db.get_secret_value()
        return given or f"sqlite:///{self._home / 'catalog.db'}"

    @property
    def warehouse_url(self) -> str:
        """The warehouse, by default a folder below the data folder."""
        return self.warehouse or (self._home / "warehouse").as_uri()

    @property
    def _home(self) -> Path:
        return self.home.expanduser().resolve()
