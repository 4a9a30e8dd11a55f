"""What an analysis is refused for, beside what every domain is."""

from __future__ import annotations

from services.refusals import Refusal


class Unfit(Refusal):
    """The data of a site, or the sums of all, do not carry what was asked."""
