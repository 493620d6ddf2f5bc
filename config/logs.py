"""Structured logs: one JSON object a line, the ids of what it is about as fields.

``log = get_log("relay.worker")``; ``log.info("room opened", session_id=…, room_epoch=…)``. Values of fields
whose names tell of secrets are replaced, so that a slip in one call cannot leak one.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any

_SECRET_NAMES = ("secret", "password", "token", "authorization", "wrapped_key", "data_key", "pwd")


class _Formatter(logging.Formatter):
    def __init__(self, role: str, as_json: bool) -> None:
        super().__init__()
        self._role = role
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = getattr(record, "fields", {})
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"
        head = {"at": stamp, "level": record.levelname.lower(), "role": self._role, "log": record.name}
        entry: dict[str, Any] = {**head, "event": record.getMessage()}
        entry |= {f"{name}_" if name in entry else name: value for name, value in fields.items()}
        if record.exc_info:
            entry["fault"] = self.formatException(record.exc_info)
        if self._as_json:
            return json.dumps(entry, default=str, ensure_ascii=False)
        rest = " ".join(f"{k}={v}" for k, v in fields.items())
        text = f"{stamp[11:23]} {self._role:<8} {record.levelname.lower():<7} {record.getMessage()} {rest}"
        return text.rstrip() + ("\n" + entry["fault"] if "fault" in entry else "")


class Log:
    """A named logger whose keyword arguments become fields."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def debug(self, event: str, **fields: Any) -> None:
        self._write(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: Any) -> None:
        self._write(logging.INFO, event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        self._write(logging.WARNING, event, fields)

    def error(self, event: str, **fields: Any) -> None:
        self._write(logging.ERROR, event, fields)

    def fault(self, event: str, **fields: Any) -> None:
        """Log the exception being handled, once, with its ids."""
        self._write(logging.ERROR, event, fields, exc_info=True)

    def _write(self, level: int, event: str, fields: dict[str, Any], exc_info: bool = False) -> None:
        if self._logger.isEnabledFor(level):
            safe = {k: "•••" if any(s in k for s in _SECRET_NAMES) else v for k, v in fields.items()}
            self._logger.log(level, event, extra={"fields": safe}, exc_info=exc_info)


def get_log(name: str) -> Log:
    """The log of one module, e.g. ``get_log("relay.worker")``."""
    return Log(name)


def setup_logs(role: str, level: str = "info", fmt: str = "json") -> None:
    """Send all logs of this process to standard error. Call once, first thing in a process."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter(role, fmt == "json"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for noisy in ("aiohttp.access", "botocore", "boto3", "urllib3", "engineio", "socketio", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
