"""`python -m services.sink`: runs the service."""

from libs.warehouse.memory import keep_flat


def main() -> None:
    """Until it is told to stop."""
    keep_flat()  # before what is imported here imports Arrow
    from libs.common import logs
    from libs.common.web.serve import serve
    from services.sink.app import make_app
    from services.sink.settings import SinkSettings

    settings = SinkSettings()
    logs.configure(settings, "sink")
    serve(make_app(settings), settings, "sink", needs_tokens=False)


if __name__ == "__main__":
    main()
