"""What faulty material does to the people who took it, as planted: stated once, written into the truth.

Contamination harms most, a sensor that merely reads wrong harms nobody. A
person who took several faulty lots has the highest of their risks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from services.world.entities import DRYER, Dispense, HazardEvaluation, Line, Material, ProcessLot
from services.world.genealogy import descendants, outputs
from services.world.records import Harm, Opened, Return
from services.world.worldgen.vocabulary import ALT, CREATININE, CRP, LEUKOCYTES

#: Risk of a complaint, when asked, of somebody who took nothing faulty.
COMPLAINT_OTHERWISE = 0.08


@dataclass(frozen=True)
class Effect:
    """Risk of a complaint; by LOINC code the factor on laboratory values; the symptom; and what a
    physician says of it: severity, likelihood, class of the recall (FDA 21 CFR 7.3(m): I is the worst)."""

    risk: float
    labs: Mapping[str, float] = field(default_factory=dict)
    symptom: str = ""
    severity: str = "none"
    likelihood: str = "remote"
    recall_class: int = 3


#: By the kind of a fermentation's fault, or the tag of a dryer's.
EFFECTS = {
    "contamination": Effect(0.60, {CRP: 6.0, LEUKOCYTES: 1.7}, "fever", "serious", "probable", 1),
    "temperature-drift": Effect(0.35, {ALT: 1.8}, "nausea", "moderate", "occasional", 2),
    "feed-loss": Effect(0.25, {CRP: 2.0}, "fatigue", "moderate", "occasional", 2),
    "agitation-loss": Effect(0.15, {}, "headache", "minor", "remote", 3),
    "sensor-drift": Effect(COMPLAINT_OTHERWISE),
    "DryerTemp": Effect(0.40, {ALT: 1.6}, "pruritus", "moderate", "probable", 2),
    "DryerPressure": Effect(0.35, {ALT: 1.5}, "skin irritation", "moderate", "occasional", 2),
    "JacketTemperature": Effect(0.30, {CREATININE: 1.2}, "erythema", "moderate", "occasional", 2),
    "AgitatorPower": Effect(0.20, {}, "skin irritation", "minor", "occasional", 3),
}


def effect_name(line: Line, lot: ProcessLot) -> str:
    """What a faulty lot's effect is called."""
    assert lot.fault
    return lot.fault.tag if line.process == DRYER else lot.fault.kind


def faulty_lots(lines: Iterable[Line]) -> dict[str, str]:
    """Every lot that something is wrong with, and the name of its effect."""
    return {lot.lot: effect_name(line, lot) for line in lines for lot in line.lots if lot.faulty}


def implicated(faulty: Iterable[str], materials: Iterable[Material]) -> dict[str, list[str]]:
    """For each lot that has something faulty inside, or is faulty: which."""
    made = outputs(materials)
    found: dict[str, list[str]] = defaultdict(list)
    for lot in sorted(faulty):
        for below in descendants(lot, made):
            found[below].append(lot)
    return found


def harms(
    dispenses: Sequence[Dispense],
    opened: Iterable[Opened],
    returns: Iterable[Return],
    inside: Mapping[str, Sequence[str]],
    faulty: Mapping[str, str],
) -> tuple[Harm, ...]:
    """Everybody who truly took faulty material, once for each faulty lot; `inside` as `implicated` says."""
    truly = {item.dispense: item.lot for item in opened}
    untouched = {item.dispense.dispense for item in returns if not item.opened}
    found: dict[tuple[str, str, str], Harm] = {}
    for dispense in dispenses:
        if not dispense.pseudonym or dispense.dispense in untouched:
            continue
        for lot in inside.get(truly.get(dispense.dispense, dispense.lot), ()):
            effect = EFFECTS[faulty[lot]]
            found[dispense.site, dispense.pseudonym, lot] = Harm(
                dispense.site, dispense.pseudonym, lot, faulty[lot], effect.risk, tuple(sorted(effect.labs))
            )
    return tuple(found[key] for key in sorted(found))


def hazards(faulty: Mapping[str, str]) -> tuple[HazardEvaluation, ...]:
    """What the maker's physician would say of each faulty lot."""
    return tuple(
        HazardEvaluation(
            lot,
            EFFECTS[name].severity,
            EFFECTS[name].likelihood,
            EFFECTS[name].recall_class,
            f"{name}: harm to the patient is {EFFECTS[name].severity}, {EFFECTS[name].likelihood}",
        )
        for lot, name in sorted(faulty.items())
    )
