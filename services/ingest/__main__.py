"""`python -m services.ingest`: serve until told to stop."""

from libs.warehouse.memory import keep_flat

if __name__ == "__main__":
    keep_flat(16 << 20)  # before what is imported here imports Arrow
    from libs.common.web.serve import main
    from services.ingest.app import make_app
    from services.ingest.settings import IngestSettings

    main(IngestSettings, make_app, "ingest")
