"""Which process speaks for which hospital."""

from __future__ import annotations

import pytest

from services.kit.hospitals import processes, unknown


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (("clinical", "rnd", "clinicals"), {"st-mary": "clinical"}),
        (("clinical.b", "clinical"), {"b": "clinical.b", "st-mary": "clinical"}),
        # An entry under its own name is the nearer one.
        (("clinical.st-mary", "clinical"), {"st-mary": "clinical.st-mary"}),
        (("rnd",), {}),
    ],
)
def test_each_hospital_has_one_process(names: tuple[str, ...], found: dict[str, str]) -> None:
    assert processes(names, "st-mary") == found


def test_a_refusal_names_what_was_asked_and_what_there_is() -> None:
    assert unknown("x", ("b", "a")) == "there is no hospital 'x' here; known: a, b"
    assert unknown("x", ()).endswith("known: none")
