"""How grave an alert is when it is raised, and when more is known.

Risk is how bad the harm would be and how likely it is (ICH Q9(R1), chapter 5.1);
the guideline leaves the scale to who uses it. Here the one is the class that the
product's rules propose, or that a person gives; the other how far the process is
beyond the limit in force, for chance reaches a limit now and then and does not
reach twice its distance. The multiples are a convention of this platform, fit to
limits of about three residual standard deviations: `FAR` is then six, where a
normal residual comes once in five hundred million samples, and `VERY_FAR` fifteen,
where no reading of the process as usual is left.
"""

from __future__ import annotations

from collections.abc import Mapping

from pharmaloop.alerting.v1 import events_pb2 as alerting
from pharmaloop.production.v1 import events_pb2 as production
from services.alerting.domain.escalation import CRITICAL, MAJOR, MINOR, OF_DEVIATION

#: From so many times its limit on a deviation is far out, and very far.
FAR, VERY_FAR = 2.0, 5.0
#: One class more.
_WORSE: Mapping[alerting.AlertSeverity, alerting.AlertSeverity] = {
    MINOR: MAJOR,
    MAJOR: CRITICAL,
    CRITICAL: CRITICAL,
}
#: What the class of a health hazard makes of an alert that its run is late: classes of recalls as in
#: 21 CFR 7.3(m), I where death or lasting harm is probable.
OF_HAZARD: Mapping[production.HazardClass, alerting.AlertSeverity] = {
    production.HAZARD_CLASS_I: CRITICAL,
    production.HAZARD_CLASS_II: MAJOR,
    production.HAZARD_CLASS_III: MINOR,
}


def of_deviation(proposed: production.Severity, magnitude: float, limit: float) -> alerting.AlertSeverity:
    """How grave the alert of a deviation is: `magnitude` and `limit` in residual standard deviations.

    What the product's rules propose counts, one class more where it is very far out. Where no rule knows the
    tag the distance alone says it: near the limit minor, far major, very far critical. Without a limit (0)
    there is no distance, and what nobody knows is not put off: major.
    """
    distance = magnitude / limit if limit > 0 else None
    if proposed != production.SEVERITY_UNSPECIFIED:
        known = OF_DEVIATION.get(proposed, MAJOR)
        return _WORSE[known] if distance is not None and distance >= VERY_FAR else known
    if distance is None:
        return MAJOR
    if distance >= VERY_FAR:
        return CRITICAL
    return MAJOR if distance >= FAR else MINOR


def of_late_stage(loop: str) -> alerting.AlertSeverity:
    """How grave it is that a stage is late: in the safety loop patients may wait, in no other."""
    return MAJOR if loop == "safety" else MINOR
