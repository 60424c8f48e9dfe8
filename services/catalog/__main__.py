"""`python -m services.catalog`: run the service; `… migrate`: bring the tables up, and end."""

from __future__ import annotations

import asyncio
import sys

from libs.common import logs
from libs.common.errors import OneBlockError
from libs.common.web.serve import serve
from services.catalog.app import SERVICE, make_app
from services.catalog.settings import CatalogSettings
from services.catalog.store.database import Database
from services.catalog.store.schema import migrate


def main() -> None:
    """Reads the settings once, here."""
    settings = CatalogSettings()
    logs.configure(settings, SERVICE)
    try:
        if sys.argv[1:] == ["migrate"]:
            print(asyncio.run(_migrate(settings)))
            return
        app = make_app(settings)
    except OneBlockError as error:
        sys.exit(f"oneblock {SERVICE}: {error.detail}")
    serve(app, settings, SERVICE)


async def _migrate(settings: CatalogSettings) -> str:
    database = Database(settings.database_url)
    try:
        return await migrate(database)
    finally:
        await database.close()


if __name__ == "__main__":
    main()
