"""`python -m services.transform`: runs the service."""

from libs.common import logs
from libs.common.web.serve import serve
from services.transform.app import make_app
from services.transform.settings import Settings

if __name__ == "__main__":
    settings = Settings()
    logs.configure(settings, "transform")
    serve(make_app(settings), settings, "transform", needs_tokens=False)
