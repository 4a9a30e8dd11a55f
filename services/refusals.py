"""Why a domain says no, as data: reason, sentence, field.

    Refusal        a rule said no
     +- Malformed  what was sent breaks a rule of form, whatever the state or the data
     +- Absent     it names what is not known here

Nothing of any service and of no transport: domain code may import this.
`services.kit.refused` turns it into what a caller is answered with.
"""

from __future__ import annotations


class Refusal(ValueError):
    """A rule said no. `reason` is for machines, `description` says the rule and the next step, `field` is the
    path of the field at fault."""

    def __init__(self, reason: str, description: str, field: str) -> None:
        super().__init__(f"{reason}: {description}")
        self.reason = reason
        self.description = description
        self.field = field


class Malformed(Refusal):
    """What was sent breaks a rule of form."""


class Absent(Refusal):
    """It names what is not known here."""
