"""What was planted and what truly happened, written down before anything is sent.

Only the composition root writes it and only `pharmaloop verify` and the tests
read it. No simulated person may: the modules in `actors` do not import this
one, and a test holds them to it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from services.kit.ids import parse_lot, product_of
from services.world.entities import Blood, HazardEvaluation, Line, PlantedFault, ProcessLot
from services.world.exposure import CORRECTED, Exposure, exposures, said
from services.world.mishap_rows import IncidentRow, incidents
from services.world.names import WEAK_PLANT
from services.world.plans import (
    BAND,
    GENOTYPE,
    MARKETING,
    WRONG_REQUESTS,
    misfit_of,
    mistake_of,
    set_name,
    study_id,
)
from services.world.processes import SAMPLE, onset_sample
from services.world.recipes import MISFIT_RULES, MISTAKES
from services.world.records import Harm, World
from services.world.rows import world_tables
from services.world.sizes import SIZES
from services.world.tables import table, write_folder
from services.world.treatment import CampaignLot, Taker, Treatment
from services.world.worldgen.effects import (
    COMPLAINT_OTHERWISE,
    EFFECTS,
    effect_name,
    faulty_lots,
    implicated,
)

FOLDER, FILE = "truth", "truth.json"


@dataclass(frozen=True, slots=True)
class LotRow:
    """A lot, and the faulty lots that are inside it (itself, if it is one)."""

    lot: str
    owner: str
    product: str
    number: str
    made: datetime
    faulty_inside: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EdgeRow:
    """Some of a lot went into another; `late` is when its record comes."""

    lot: str
    input: str
    at: datetime
    kind: str
    source: str
    late: timedelta | None


@dataclass(frozen=True, slots=True)
class DispenseRow:
    """What truly happened: `taken_from` is the lot that the pack was of, `disposition` what became of it."""

    dispense: str
    order: str
    site: str
    pseudonym: str
    pharmacy: str
    lot: str
    possible_lots: tuple[str, ...]
    taken_from: str
    at: datetime
    amount: int
    unit: str
    disposition: str


@dataclass(frozen=True, slots=True)
class FaultRow:
    """A planted fault. `onset_sample` counts from nought; a nuisance is in the readings alone."""

    lot: str
    product: str
    process: str
    equipment: str
    copy_of_run: int
    tag: str
    tags: tuple[str, ...]
    kind: str
    effect: str
    magnitude: float
    onset: float
    onset_sample: int
    onset_at: datetime
    sample_seconds: float
    nuisance: bool


@dataclass(frozen=True, slots=True)
class PersonRow:
    """A patient at a hospital: what they agreed to in the end, how they are, whether they ever answer and
    after how many reminders."""

    site: str
    pseudonym: str
    consent: bool
    status: str
    moved_to: str
    answers: bool
    reminders: int
    gives_blood: bool
    complaint: bool
    harmed_by: tuple[str, ...]


def truth_tables(world: World) -> dict[str, Any]:
    """By name, as pyarrow.Table."""
    return {
        "lots": table(LotRow, _lots(world)),
        "edges": table(EdgeRow, _edges(world)),
        "dispenses": table(DispenseRow, _dispenses(world)),
        "exposures": table(Exposure, exposures(world)),
        "faults": table(FaultRow, faults(world)),
        "effects": table(Harm, world.harms),
        "blood": table(Blood, world.blood),
        "people": table(PersonRow, _people(world)),
        "incidents": table(IncidentRow, incidents(world)),
        "hazards": table(HazardEvaluation, world.hazards),
        "takers": table(Taker, world.treatment.takers if world.treatment else ()),
        "campaign": table(CampaignLot, world.treatment.lots if world.treatment else ()),
    }


def summary(world: World) -> dict[str, Any]:
    """What a reader needs to begin: which world it is, what was planted, which runs are replayed."""
    planted = list(faults(world))
    return {
        "seed": world.seed,
        "series": world.series,
        "size": world.size,
        "anchor": world.anchor.isoformat(),
        "sites": list(world.sites),
        "planted": [{**_planted(row), **_harm(row)} for row in planted if not row.nuisance],
        "complaint_otherwise": COMPLAINT_OTHERWISE,
        "nuisances": [_planted(row) for row in planted if row.nuisance],
        "live": [lot.lot for line in world.lines for lot in line.lots if lot.live],
        "treatment": _treatment(world, world.treatment) if world.treatment else None,
    }


def _treatment(world: World, treatment: Treatment) -> dict[str, Any]:
    """The medicine, what is planted in who takes it, and how its transfers and studies must end."""
    size = SIZES[world.size].treatment
    return {
        "product": treatment.product,
        "warm_lots": [lot.lot for lot in treatment.lots if lot.warm],
        "effects": asdict(treatment.effects),
        "transfers": _transfers(world.series, treatment.plant, size.transfers if size else 0),
        "studies": _studies(world.seed),
    }


def _transfers(series: str, plant: str, versions: int) -> dict[str, Any]:
    """How each release must end."""
    name = set_name(series)
    return {
        "set": name,
        "plant": plant,
        "versions": versions,
        "misfit": {"set": misfit_of(name), "plant": WEAK_PLANT, "rules": list(MISFIT_RULES)},
        "mistakes": [mistake_of(name, mistake.name) for mistake in MISTAKES],
    }


def _studies(seed: int) -> list[dict[str, Any]]:
    """How each study must end; `sign` is the direction of what is planted."""
    ends = ((BAND, "closed", 1), (GENOTYPE, "closed", -1), (MARKETING, "refused", 0))
    return [
        {"study": study_id(seed, name), "name": name, "outcome": outcome, "sign": sign}
        for name, outcome, sign in (*ends, *((wrong, "", 0) for wrong, _ in WRONG_REQUESTS))
    ]


def write_truth(world: World, folder: Path) -> Path:
    """Put the truth beside the platform's state; whole or not at all."""
    text = json.dumps(summary(world), indent=1) + "\n"
    return write_folder(folder / FOLDER, truth_tables(world), {FILE: text})


def write_world(world: World, folder: Path) -> None:
    """World and truth without any platform, each in a folder of its own."""
    write_folder(folder / "world", world_tables(world))
    write_truth(world, folder)


def faults(world: World) -> Iterator[FaultRow]:
    for line in world.lines:
        for lot in line.lots:
            if lot.fault:
                yield _fault(line, lot, lot.fault)


def _fault(line: Line, lot: ProcessLot, fault: PlantedFault) -> FaultRow:
    step, sample = SAMPLE[line.process], onset_sample(lot)
    return FaultRow(
        lot=lot.lot,
        product=line.product,
        process=line.process,
        equipment=lot.equipment,
        copy_of_run=lot.run,
        tag=fault.tag,
        tags=fault.tags or (fault.tag,),
        kind=fault.kind,
        effect="" if fault.nuisance else effect_name(line, lot),
        magnitude=fault.magnitude,
        onset=fault.onset,
        onset_sample=sample,
        onset_at=lot.started + sample * step,
        sample_seconds=step.total_seconds(),
        nuisance=fault.nuisance,
    )


def _planted(row: FaultRow) -> dict[str, Any]:
    return {
        "lot": row.lot,
        "process": row.process,
        "tag": row.tag,
        "tags": list(row.tags),
        "kind": row.kind,
        "magnitude": row.magnitude,
        "onset_at": row.onset_at.isoformat(),
        "sample_seconds": row.sample_seconds,
    }


def _harm(row: FaultRow) -> dict[str, Any]:
    """What it does to who takes it: the risk of a complaint, and the factors on laboratory values."""
    effect = EFFECTS[row.effect]
    return {"effect": row.effect, "risk": effect.risk, "labs": dict(sorted(effect.labs.items()))}


def _lots(world: World) -> Iterator[LotRow]:
    inside = implicated(faulty_lots(world.lines), world.materials)
    made: dict[str, datetime] = {}
    for item in world.materials:
        made[item.lot] = min(made.get(item.lot, item.at), item.at)
    for lot in sorted(made):
        parts = parse_lot(lot)
        yield LotRow(lot, parts.owner, product_of(lot), parts.lot, made[lot], tuple(inside.get(lot, ())))


def _edges(world: World) -> Iterator[EdgeRow]:
    for item in world.materials:
        for used in item.inputs:
            yield EdgeRow(item.lot, used, item.at, item.kind, item.source, item.late)


def _dispenses(world: World) -> Iterator[DispenseRow]:
    truly = {item.dispense: item.lot for item in world.opened}
    for one, disposition in said(world):
        if disposition != CORRECTED:  # that never happened
            yield DispenseRow(
                dispense=one.dispense,
                order=one.order,
                site=one.site,
                pseudonym=one.pseudonym,
                pharmacy=one.pharmacy,
                lot=one.lot,
                possible_lots=one.possible_lots,
                taken_from=truly.get(one.dispense, one.lot),
                at=one.at,
                amount=one.amount,
                unit=one.unit,
                disposition=disposition,
            )


def _people(world: World) -> Iterator[PersonRow]:
    harmed: dict[tuple[str, str], list[str]] = {}
    for harm in world.harms:
        harmed.setdefault((harm.site, harm.pseudonym), []).append(harm.lot)
    for hospital in world.hospitals:
        last = {one.pseudonym: one for one in hospital.subjects}
        last |= {change.subject.pseudonym: change.subject for change in hospital.changes}
        for body in hospital.bodies:
            one = last[body.pseudonym]
            lots = tuple(harmed.get((hospital.site, body.pseudonym), ()))
            yield PersonRow(
                site=hospital.site,
                pseudonym=body.pseudonym,
                consent=one.consent,
                status=one.status,
                moved_to=one.moved_to,
                answers=body.answers,
                reminders=body.reminders,
                gives_blood=body.gives_blood,
                complaint=body.complaint,
                harmed_by=lots,
            )
