"""Log lines of a worker: one JSON object each, or text for people. What a line knows beside its text are its fields."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from typing import Final, Literal

Format = Literal["json", "text"]
LEVELS: Final = ("debug", "info", "warning", "error")
_PLAIN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def configure(form: Format, level: str) -> None:
    """Write what is logged, by anyqueue and by handlers, to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Json() if form == "json" else Text())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def fields(record: logging.LogRecord) -> dict[str, object]:
    """Return what was given as `extra`."""
    return {name: value for name, value in vars(record).items() if name not in _PLAIN}


class Json(logging.Formatter):
    """One JSON object a line: time (UTC), level, logger, process, event, and the fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Write one line."""
        line: dict[str, object] = {
            "time": _utc(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": os.getpid(),
            "event": record.getMessage(),
            **fields(record),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


class Text(logging.Formatter):
    """Time, level, process, event, and the fields as name=value."""

    def format(self, record: logging.LogRecord) -> str:
        """Write one line, and a traceback below it."""
        told = " ".join(f"{name}={value}" for name, value in fields(record).items())
        line = f"{_utc(record.created)} {record.levelname.lower():7} {os.getpid()} {record.getMessage()}"
        trace = f"\n{self.formatException(record.exc_info)}" if record.exc_info else ""
        return f"{line}{' ' if told else ''}{told}{trace}"


def _utc(seconds: float) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{int(seconds % 1 * 1000):03}Z"
