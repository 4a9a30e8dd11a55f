"""Why the domain says no, as data: reason, sentence, field.

    Refusal        a rule said no
     +- Malformed  what was sent breaks a rule of form, whatever the state or the data
     +- Absent     what it names is not known here
     +- Unfit      the data of a site, or the sums of all, do not carry what was asked

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
    """What was sent breaks a rule of form."""


class Absent(Refusal):
    """It names what is not known here."""


class Unfit(Refusal):
    """The data of a site, or the sums of all, do not carry what was asked."""
