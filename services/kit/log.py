"""Structured logs: one JSON object a line, UTC, with bound context.

Never log a message body: fields of class L3 and above must not reach a log.
Log ids, types, counts and reasons.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog

from services.kit import tracing

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


def configure(service: str, level: str = "INFO") -> None:
    """Set up logging of this process; called once, by its main."""
    logging.basicConfig(stream=sys.stdout, format="%(message)s", level=level)
    for noisy in ("faust", "aiokafka", "mode", "pymongo", "grpc"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            tracing.add_ids,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level)),
        logger_factory=structlog.PrintLoggerFactory(sys.stdout),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)


def configure_command() -> None:
    """Set up logging of a command: warnings, on stderr, for on stdout stands what was asked for."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
    )


def get_logger(name: str) -> Any:
    """A logger bound to the name of what logs."""
    return structlog.get_logger(component=name)
