"""Structured logs: events with fields, run and trace of what is being handled in each line."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, TextIO

import structlog
from structlog.contextvars import bound_contextvars, merge_contextvars

from libs.common.settings import CommonSettings
from libs.common.trace import current

QUIET = ("nats", "oneblock.faststream", "asyncio", "uvicorn.access", "aiosqlite")  # warnings only


def configure(settings: CommonSettings, service: str, stream: TextIO | None = None) -> None:
    """Send structlog and the standard library's logs to stderr: JSON unless it is a terminal."""
    out = stream or sys.stderr
    as_json = settings.log_json if settings.log_json is not None else not out.isatty()
    level = logging.getLevelNamesMapping().get(settings.log_level.upper(), logging.INFO)
    shared = _shared(service)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(_formatter(shared, as_json))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in QUIET:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))


def _formatter(
    shared: list[structlog.typing.Processor], as_json: bool
) -> structlog.stdlib.ProcessorFormatter:
    if as_json:
        last: list[structlog.typing.Processor] = [
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(default=str),
        ]
    else:
        last = [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    drop = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    return structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[drop, *last])


def _shared(service: str) -> list[structlog.typing.Processor]:
    def named(
        _logger: object, _method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        event.setdefault("service", service)
        if "trace" not in event and (trace := current()):
            event["trace"] = trace.id
        return event

    return [
        merge_contextvars,
        named,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]


@contextmanager
def about(**fields: str | int | None) -> Iterator[None]:
    """Put these fields (run, dataset, …) into every line logged inside the block."""
    with bound_contextvars(**{name: value for name, value in fields.items() if value is not None}):
        yield
