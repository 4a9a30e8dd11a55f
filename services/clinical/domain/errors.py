"""Why the domain says no, as data: reason, sentence, field. The domain knows no transport."""

from __future__ import annotations


class Malformed(ValueError):
    """What was sent breaks a rule of form.

    `reason` is for machines, `description` says the rule and the next step,
    `field` is the path of the field at fault.
    """

    def __init__(self, reason: str, description: str, field: str) -> None:
        super().__init__(f"{reason}: {description}")
        self.reason = reason
        self.description = description
        self.field = field
