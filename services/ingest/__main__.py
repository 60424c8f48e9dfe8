"""`python -m services.ingest`: serve until told to stop."""

from libs.common.web.serve import main
from services.ingest.app import make_app
from services.ingest.settings import IngestSettings

if __name__ == "__main__":
    main(IngestSettings, make_app, "ingest")
