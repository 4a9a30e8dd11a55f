"""Why a statistic is refused, as data: reason, sentence, field.

The domain knows no transport; whoever calls turns this into the platform's own error.
"""

from __future__ import annotations


class Malformed(ValueError):
    """The input breaks a rule. `reason` is for machines, `description` says rule and next step."""

    def __init__(self, reason: str, description: str, field: str) -> None:
        super().__init__(f"{reason}: {description}")
        self.reason = reason
        self.description = description
        self.field = field
