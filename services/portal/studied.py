"""What the page of a study and that of its run both show: who takes part, its rounds, its forest plots."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from markupsafe import Markup

from pharmaloop.exchange.v1 import service_pb2 as api
from services.portal.drawing.intervals import intervals, row
from services.portal.languages import Language

#: States in which a person can still stop a study.
GOING = (
    api.STUDY_STATE_REQUESTED,
    api.STUDY_STATE_APPROVED,
    api.STUDY_STATE_COMPUTING,
    api.STUDY_STATE_SUSPENDED,
)


def studied(language: Language, study: Any, datasets: Any) -> dict[str, Any]:
    """What `study_parts.html` shows of a study beside its message. `datasets` is the exchange's answer of
    which are offered; None where it gave none, and then no agent is said to be there or not."""
    connected = {one.registered.dataset: one.connected for one in datasets.datasets} if datasets else {}
    return {
        "going": study.state in GOING,
        "computing": study.state == api.STUDY_STATE_COMPUTING,  # rounds tell no event until they are over
        "waiting": study.state == api.STUDY_STATE_REQUESTED,
        "participants": _participants(study, connected),
        "forests": _forests(language, study.insight.effects),
        "ratio": _ratio,
    }


def _participants(study: Any, connected: Mapping[str, bool]) -> list[dict[str, Any]]:
    """Each site that is asked, with its dataset, its owner's approval and whether its agent is there."""
    signed = {one.site: one for one in study.approvals}
    rows = []
    for dataset in study.requested.datasets:
        site = dataset.partition("/")[0]
        if site not in study.requested.sites:  # the name of a dataset need not begin with its site
            site = next((name for name in study.requested.sites if dataset.startswith(name)), site)
        rows.append(
            {
                "site": site,
                "dataset": dataset,
                "approval": signed.get(site),
                "connected": connected.get(dataset),
            }
        )
    return rows


def _forests(language: Language, effects: Iterable[Any]) -> list[tuple[str, Markup]]:
    """A forest plot of the estimates of each scale, with a line at no effect."""
    scales: dict[str, list[Any]] = {}
    for effect in effects:
        scales.setdefault(effect.scale, []).append(effect)
    drawn = []
    for scale, held in scales.items():
        ratio = "ratio" in scale and not scale.startswith("log")
        label = language.say("Estimates on the scale %(scale)s, with their 95 %% intervals", scale=scale)
        rows = [row(one.term, one.estimate) for one in held]
        drawn.append(
            (scale, intervals(rows, label=label, number=language.number, marks=[1.0 if ratio else 0.0]))
        )
    return drawn


def _ratio(effect: Any) -> float | None:
    """What an estimate on a logarithmic scale is as a ratio; None on another scale."""
    if not effect.scale.startswith("log") or not effect.estimate.HasField("value"):
        return None
    return math.exp(effect.estimate.value) if abs(effect.estimate.value) < 500 else None
