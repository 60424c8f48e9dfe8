"""`python -m services.sink`: runs the service."""

from libs.common import logs
from libs.common.web.serve import serve
from services.sink.app import make_app
from services.sink.settings import SinkSettings

if __name__ == "__main__":
    settings = SinkSettings()
    logs.configure(settings, "sink")
    serve(make_app(settings), settings, "sink", needs_tokens=False)
