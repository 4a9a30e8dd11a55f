"""After everything that the tests before did to a world, its views can be made anew and are the same."""

from __future__ import annotations

import pytest

from tests.reliability.stand import Stand
from tests.reliability.views import rebuild_every_view, views


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_a_rebuild_of_every_view_is_byte_equal(stand: Stand) -> None:
    assert len(list(views())) >= 5, "every service with a view has one here"
    with stand.judged():
        stand.case().play(stand.caller)
        stand.compare()
        rebuild_every_view(stand.rough)
        # The world goes on with the new ones.
        stand.case().play(stand.caller)
