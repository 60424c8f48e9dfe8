"""`python -m services.transform`: runs the service."""

from libs.warehouse.memory import keep_flat


def main() -> None:
    """Until it is told to stop."""
    keep_flat()  # before what is imported here imports Arrow
    from libs.common import logs
    from libs.common.web.serve import serve
    from services.transform.app import make_app
    from services.transform.settings import Settings

    settings = Settings()
    logs.configure(settings, "transform")
    serve(make_app(settings), settings, "transform", needs_tokens=False)


if __name__ == "__main__":
    main()
