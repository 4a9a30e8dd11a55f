"""What a domain refuses reaches the caller as the error of its kind, at the field of the request."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from services.kit.errors import Invalid, Rejected, Unknown
from services.kit.refused import refusals
from services.refusals import Absent, Malformed, Refusal


class Unfit(Refusal):
    """Of one service."""


@pytest.mark.parametrize(
    ("refusal", "error"), [(Malformed, Invalid), (Absent, Unknown), (Refusal, Rejected), (Unfit, Rejected)]
)
def test_a_refusal_is_the_error_of_its_kind(refusal: type[Refusal], error: type[Rejected]) -> None:
    with pytest.raises(Rejected) as caught, refusals():
        raise refusal("OUT_OF_RANGE", "dose is above 0: send another", "dose")
    assert type(caught.value) is error
    assert (caught.value.reason, caught.value.field) == ("OUT_OF_RANGE", "dose")
    assert "dose is above 0: send another" in str(caught.value)


@pytest.mark.parametrize(
    ("inside", "field"),
    [("", "dose"), ("definition", "definition.dose"), ({"dose": "order.dose"}, "order.dose"), ({}, "dose")],
)
def test_the_field_is_where_it_stands_in_the_request(inside: str | Mapping[str, str], field: str) -> None:
    with pytest.raises(Invalid) as caught, refusals(inside):
        raise Malformed("OUT_OF_RANGE", "dose is above 0", "dose")
    assert caught.value.field == field
