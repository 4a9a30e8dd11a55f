"""Why the domain says no, as data: reason, sentence, field.

    Refusal        a rule said no
     +- Malformed  the request itself breaks a rule, whatever the state
     +- Absent     what it names is not known here

The domain knows no transport; handlers and the API turn these into the
platform's own errors.
"""

from __future__ import annotations


class Refusal(ValueError):
    """A rule said no. `reason` is for machines, `description` says rule and next step."""

    def __init__(self, reason: str, description: str, field: str) -> None:
        super().__init__(f"{reason}: {description}")
        self.reason = reason
        self.description = description
        self.field = field


class Malformed(Refusal):
    """The request breaks a rule of form."""


class Absent(Refusal):
    """The request names what is not known here."""
