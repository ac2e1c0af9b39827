"""One JSON object per event on standard error, of our own code and of the libraries alike; never a secret."""

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog
from structlog.typing import Processor

from ingest.queue import DeadLetter

# Only what is certainly a secret by its place: bearer tokens, the signature of our URLs, the hash of Meta's.
_SECRETS = re.compile(
    r"((?:bearer|basic)\s+|(?:sig|signature|hash|access_token|x-amz-signature|x-amz-credential|x-amz-security-token"
    r"|hub\.verify_token)=)[^\s&\"']+",
    re.IGNORECASE,
)
_URL_PASSWORD = re.compile(r"(://[^:/\s@]*:)[^/\s]+@")


def configure(level: str) -> None:
    """Send the events of structlog and of the standard library to standard error as JSON."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _redact,
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, structlog.stdlib.ExtraAdder(), *shared],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(default=str),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "dbos"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [], True
    logging.getLogger("uvicorn.error").setLevel(level.upper())
    logging.getLogger("uvicorn.error").addFilter(_not_deliberate)
    dbos = logging.getLogger("dbos")
    dbos.setLevel(logging.WARNING)
    dbos.addFilter(_not_a_dead_letter)
    dbos.addHandler(logging.NullHandler())  # without any, DBOS adds a console of its own


def _not_deliberate(record: logging.LogRecord) -> bool:
    """Keep out what uvicorn says when we break a connection on purpose: see `gateway.responses.send_body`.

    ASGI has no other way to abort a response; why it was aborted is in our own log.
    """
    return record.msg != "ASGI callable returned without completing response."


def _not_a_dead_letter(record: logging.LogRecord) -> bool:
    """Keep out the trace of a job that we have given up by an exception: a line of ours says which one, and why."""
    return record.exc_info is None or record.exc_info[0] is not DeadLetter


def _redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = redacted(value)
    return event


def redacted(text: str) -> str:
    """Return a text without what is a secret by its place in it."""
    return _URL_PASSWORD.sub(r"\1***@", _SECRETS.sub(r"\1***", text))
