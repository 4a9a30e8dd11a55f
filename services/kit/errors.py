"""Errors by what the caller does about them, not by what went wrong.

    PharmaLoopError
     +- Retryable     try again later: a dependency is down, a lease is held
     +- Poison        never retry: dead-letter, under the dead-letter limit
     +- Rejected      a domain rule said no; answer with the reason
     |   +- Invalid   the request is malformed, whatever the state
     |   +- Unknown   what it names does not exist, or is not known yet
     |   +- OutOfRange   the place it goes on from is not in the log (any more): begin anew
     |   +- Exhausted    a limit of what may be open at once is reached
     |   +- Unserved     the contract that runs here does not have the call
     +- Forbidden     the actor lacks the right
     +- Integrity     a check of stored data failed; stop and alert

Batch runners map class to action in one table, gRPC maps class to status in
one interceptor.
"""

from __future__ import annotations


class PharmaLoopError(Exception):
    """Root of the tree; never raised itself."""


class Retryable(PharmaLoopError):
    """The same call may succeed later."""


#: What is wrong may be quoted, and be as long as the record; a letter has to fit into its topic beside it.
_DESCRIPTION_LETTERS = 2000


class Poison(PharmaLoopError):
    """The input can never be processed. `reason` is machine-readable."""

    def __init__(self, reason: str, description: str) -> None:
        if len(description) > _DESCRIPTION_LETTERS:
            description = f"{description[:_DESCRIPTION_LETTERS]} ..."
        super().__init__(f"{reason}: {description}")
        self.reason = reason
        self.description = description


class Rejected(PharmaLoopError):
    """A rule refused the request.

    `reason` is machine-readable (UPPER_SNAKE), `field` is the path of the
    field at fault, `description` says the rule and the next step. `others` are
    further rules that the same request breaks.
    """

    def __init__(
        self, reason: str, description: str, field: str = "", others: tuple[Rejected, ...] = ()
    ) -> None:
        super().__init__(f"{reason}: {description}")
        self.reason = reason
        self.description = description
        self.field = field
        self.others = others


class Invalid(Rejected):
    """The request is malformed."""


class Unknown(Rejected):
    """What the request names does not exist here, or has not been heard of yet."""


class OutOfRange(Rejected):
    """The log does not reach to the place that the request goes on from; the same request never will."""


class Exhausted(Rejected):
    """So much is open already that the request would be one too many."""


class Unserved(Rejected):
    """The contract that runs here does not have the call: another version may."""


class Forbidden(PharmaLoopError):
    """The actor lacks the right."""


class Integrity(PharmaLoopError):
    """Stored data contradict themselves; nobody may go on."""


#: Names under which refusals are stored as data, so that a repeated request
#: gets the same answer.
REFUSALS: dict[str, type[Rejected]] = {cls.__name__: cls for cls in (Rejected, Invalid, Unknown)}
