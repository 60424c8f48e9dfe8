"""`python -m services.catalog`: run the service; `… migrate`: bring the tables up, and end."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from libs.warehouse.memory import keep_flat

if TYPE_CHECKING:
    from services.catalog.settings import CatalogSettings


def main() -> None:
    """Reads the settings once, here."""
    keep_flat()  # before what is imported here imports Arrow
    from libs.common import logs
    from libs.common.errors import OneBlockError
    from libs.common.web.serve import serve
    from services.catalog.app import SERVICE, make_app
    from services.catalog.settings import CatalogSettings

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
    from services.catalog.store.database import Database
    from services.catalog.store.schema import migrate

    database = Database(settings.database_url)
    try:
        return await migrate(database)
    finally:
        await database.close()


if __name__ == "__main__":
    main()
