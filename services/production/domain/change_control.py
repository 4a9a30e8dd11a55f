"""What every change under control must say: that it is validated, and whether it is filed.

The same for a limit of a corrective action and for a recipe that came by
technology transfer (ICH Q10, 3.2.3; reporting categories as in ICH Q12, 2.1).
"""

from __future__ import annotations

from typing import TypeAlias

from pharmaloop.production.v1 import events_pb2 as events
from services.production.domain.record import given
from services.refusals import Malformed

Validated: TypeAlias = events.ChangeValidated | events.RecipeValidated
Assessed: TypeAlias = events.ChangeFilingAssessed | events.RecipeFilingAssessed

_CATEGORIES = (
    events.FILING_CATEGORY_NOT_REPORTED,
    events.FILING_CATEGORY_NOTIFICATION,
    events.FILING_CATEGORY_PRIOR_APPROVAL,
)


def check_validation(asked: Validated) -> None:
    """Malformed where the record or what was shown is left out."""
    given(asked.record, "record", "say where the validation is on record")
    given(asked.statement, "statement", "say what was shown")


def check_filing(asked: Assessed) -> None:
    """Malformed where the category or its reason is left out, or what the authority has said."""
    if asked.category not in _CATEGORIES:
        said = "say whether the change is not reported, notified, or needs prior approval"
        raise Malformed("REQUIRED", said, "category")
    if asked.category != events.FILING_CATEGORY_NOT_REPORTED:
        given(asked.reference, "reference", "name the authority's approval, or the notification")
    given(asked.statement, "statement", "say why")
