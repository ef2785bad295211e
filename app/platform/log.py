"""Structured logs: one JSON object per line on standard output, each with the id of its request."""

import logging
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

import orjson
from pythonjsonlogger.orjson import OrjsonFormatter

request_id_var: ContextVar[str | None] = ContextVar("request_id", default=None)


class _RequestIdFilter(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = request_id_var.get()
        return True


class _Formatter(OrjsonFormatter):
    """Writes what `log_fields` logs without looking for what else a record may hold: there is a line per request."""

    def format(self, record: logging.LogRecord) -> str:
        fields: Mapping[str, Any] | None = getattr(record, "fields", None)
        if fields is None:
            return super().format(record)
        line = {"level": record.levelname, "logger": record.name, "message": record.msg}
        line |= {"request_id": request_id_var.get(), **fields, "time": datetime.fromtimestamp(record.created, UTC)}
        return orjson.dumps(line).decode()


def log_fields(logger: logging.Logger, message: str, fields: Mapping[str, Any]) -> None:
    """Logs a message at INFO with plain values beside it, cheaply."""
    if logger.isEnabledFor(logging.INFO):
        record = logging.LogRecord(logger.name, logging.INFO, "", 0, message, None, None)
        record.fields = fields
        logger.handle(record)


class _NoHandshakes(logging.Filter):
    """Uvicorn's line on each WebSocket has its query string, and with it one-time tickets."""

    def filter(self, record: logging.LogRecord) -> bool:
        return '"WebSocket %s"' not in str(record.msg)


# One object, since adding it again does nothing.
_NO_HANDSHAKES = _NoHandshakes()


def configure_logging(level: str) -> None:
    """Sends everything, the server's own lines included, to standard output as JSON."""
    handler = logging.StreamHandler(sys.stdout)
    handler.addFilter(_RequestIdFilter())
    handler.setFormatter(
        _Formatter(
            "%(levelname)s %(name)s %(message)s %(request_id)s",
            rename_fields={"levelname": "level", "name": "logger"},
            timestamp="time",
        )
    )
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # What no line of ours shows need not be found out for each.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    for name in ("uvicorn", "uvicorn.error"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
        # The level asked for goes for it, too; but DEBUG tells the headers and messages of WebSockets, tokens too.
        logging.getLogger(name).setLevel(logging.INFO if level == "DEBUG" else logging.NOTSET)
    logging.getLogger("uvicorn.error").addFilter(_NO_HANDSHAKES)
    # Its lines would hold query strings, and with them one-time tickets; ours don't. Where nobody hears them, uvicorn
    # doesn't gather what they say either.
    access = logging.getLogger("uvicorn.access")
    access.disabled = True
    access.handlers.clear()
    access.propagate = False
    # The driver logs each failed heartbeat with a traceback at INFO and below; the outage is logged once, by us.
    logging.getLogger("pymongo").setLevel(logging.WARNING)
    # And what meets a dead server in its own background, where nobody waits for it, with a traceback at ERROR.
    logging.getLogger("pymongo.client").setLevel(logging.CRITICAL)
