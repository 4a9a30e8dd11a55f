"""Units as people write them become UCUM codes, or are refused."""

from __future__ import annotations

import pytest

from services.cli.feed.units import unit_of
from services.kit.errors import Invalid
from services.production.domain.equipment import is_ucum


def test_usual_spellings_become_codes_that_the_plant_takes() -> None:
    for text in ("℃", "°C", "°F", "μg", "µg", "ml", "片", "盒", "{patch}", "m[H2O]", "%"):
        assert is_ucum(unit_of(text))
    for text in ("milli grams", "毫克", "", "x" * 41):
        with pytest.raises(Invalid, match="no UCUM code"):
            unit_of(text)
