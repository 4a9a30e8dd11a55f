"""The dossier of a lot on paper: all that its JSON says, in the reader's language.

It names no patient, for the dossier names none. Every section says how much the dossier leaves out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from services.portal.clock import apart
from services.portal.languages import Language
from services.portal.papers.letters import FIXED_SPACE, NO_GLYPH, whole
from services.portal.papers.sheets import About, Column, Sheets
from services.portal.sayings import plain, reason, rule
from services.portal.words import WITHHELD, WORDS, hazard

_NONE = "–"


@dataclass(frozen=True)
class Taken:
    """What the paper is made of, as it was read at one moment.

    `lot` is the plant's own record (production's `Lot`), None where no plant here made it; `exposures`
    have a run's journal (`ExposureAnnounced`) by the run's id, where it was told; `digest` is the SHA-256 of
    the same dossier as JSON, in hexadecimal; `missing` names what is not there, for its service
    did not answer; `now` is the platform's time, None where its clock did not answer, and `made` the wall
    time.
    """

    key: str
    lot: Any
    dossier: Any
    exposures: Mapping[str, Any]
    digest: str
    made: datetime
    now: datetime | None = None
    missing: tuple[str, ...] = ()


def dossier_paper(taken: Taken, language: Language) -> bytes:
    """The file. It takes seconds for ten thousand rows: call it in a thread."""
    say = language.say
    made = say("made %(at)s (%(zone)s)", at=whole(language.moment(taken.made)), zone=language.zone)
    title = say("Dossier of lot %(lot)s", lot=taken.key)
    about = About(
        title=title,
        subject=taken.key,
        language=language.tag,
        foot=f"{taken.key} · {made}",
        number=lambda page, all: say(
            "Page %(n)s of %(all)s", n=language.count(page), all=language.count(all)
        ),
    )
    sheets = Sheets(about)
    sheets.title(title)
    _Dossier(taken, language, sheets).write()
    return sheets.pdf()


class _Dossier:
    """Writes the sections one after the other."""

    def __init__(self, taken: Taken, language: Language, sheets: Sheets) -> None:
        self._taken, self._found, self._lot = taken, taken.dossier, taken.lot
        self._l, self._say, self._sheets = language, language.say, sheets

    def write(self) -> None:
        for part in (
            self._head,
            self._facts,
            self._steps,
            self._deviations,
            self._results,
            self._distribution,
            self._exposed,
            self._evidence,
            self._decisions,
        ):
            part()

    # -- how things are said -------------------------------------------------------

    def _word(self, name: str, prefix: str = "") -> str:
        """The word for what the contract names, as the contract names it where there is none yet."""
        return self._say(WORDS.get(f"{prefix}{name}", WORDS.get(f"{prefix}{name.upper()}", name)))

    def _when(self, at: Any) -> str:
        return self._moment(at) or _NONE

    def _moment(self, at: Any) -> str:
        return whole(self._l.moment(at))

    def _number(self, value: float, unit: str = "") -> str:
        return f"{self._l.number(value, 6)}{FIXED_SPACE}{unit}" if unit else self._l.number(value, 6)

    def _seconds(self, seconds: float) -> str:
        say = self._say
        return say("%(n)s s", n=self._number(seconds))

    def _quantities(self, found: Iterable[Any]) -> str:
        return "; ".join(self._number(one.value, one.unit) for one in found)

    def _people(self, count: Any, told: bool = True) -> str:
        if not told:
            return self._say("not told yet")
        return self._say(WITHHELD) if count.withheld else self._l.count(count.value)

    def _estimate(self, one: Any) -> str:
        if not one.HasField("value"):
            return self._word(one.reason) or _NONE
        value, low, high = (self._number(n) for n in (one.value, one.lower, one.upper))
        return self._say("%(value)s (%(lower)s to %(upper)s)", value=value, lower=low, upper=high)

    def _lots(self, found: Iterable[str], left_out: int) -> str:
        rest = [self._left(left_out)] if left_out else []
        return "\n".join([*found, *rest]) or _NONE

    def _left(self, number: int) -> str:
        return self._say("Left out here: %(n)s", n=self._l.count(number))

    def _yes(self, told: bool) -> str:
        return self._say("yes") if told else self._say("no")

    def _note_left(self, number: int) -> None:
        if number:
            self._sheets.say(self._left(number))

    def _table(self, columns: Iterable[tuple[str, float]], rows: Iterable[Iterable[str]]) -> None:
        self._sheets.table(
            [Column(*one) for one in columns], [[cell or _NONE for cell in row] for row in rows]
        )

    # -- the sections --------------------------------------------------------------

    def _head(self) -> None:
        say, taken = self._say, self._taken
        for part in taken.missing:
            self._sheets.say(say("Not here now: %(service)s", service=part))
        state = self._word(self._found.process.state, "LOT_STATE_")
        if not self._found.process.state:
            state = say("No plant here made it")
        why = reason(self._lot, self._l) if self._lot else ""
        wall, platform = say("wall time"), say("platform clock")
        made = [f"{self._when(taken.made)} ({self._l.zone}, {wall})"]
        made += [f"{self._when(taken.now)} ({platform})"] if taken.now else []
        self._sheets.facts(
            [
                (say("State"), f"{state}: {why}" if why else state),
                (say("This paper was made"), "\n".join(made)),
                (say("SHA-256 of the dossier as JSON"), taken.digest),
            ]
        )
        if taken.now and apart(taken.now, taken.made):
            self._sheets.say(say("Simulated world: its clock does not go with the calendar."))
        self._sheets.say(say("Everything that is known of this lot. It names no patient."))
        self._sheets.say(
            say("A letter that this paper cannot write stands as %(sign)s; the JSON has it.", sign=NO_GLYPH)
        )

    def _facts(self) -> None:
        say, found = self._say, self._found
        process, material = found.process, found.material
        held = say("not shown: a kit of a blinded study")
        inputs = held if found.inputs_withheld else self._lots(material.inputs, material.inputs_left_out)
        runs = self._lot.runs if self._lot else [one.run for one in found.exposed.runs]
        known = say("only referred to: no record says that it exists")
        self._sheets.section(say("The lot"))
        self._sheets.facts(
            [
                (say("Lot"), found.lot or self._taken.key),
                (say("State of its records"), say("on record") if material.known else known),
                (say("Product"), process.product),
                (say("Equipment"), process.equipment),
                (say("Started"), self._when(process.started)),
                (say("End of its run"), self._when(process.completed)),
                (say("Made by the recipe of"), self._lot.transfer if self._lot else ""),
                (say("Runs of the safety loop"), "\n".join(runs)),
                (say("Made"), f"{self._when(material.made)} {self._quantities(material.amount_made)}"),
                (say("Went into other lots"), self._quantities(material.amount_used)),
                (say("Made from"), inputs),
                (say("Made from it"), self._lots(material.outputs, material.outputs_left_out)),
                (say("Looks wrong"), ", ".join(material.suspect)),
            ]
        )

    def _steps(self) -> None:
        say, process = self._say, self._found.process
        if not process.steps and not process.left_out:
            return
        self._sheets.section(say("What happened to it"))
        self._note_left(process.left_out)
        self._table(
            ((say("When"), 2), (say("What"), 2), (say("Who"), 2), (say("Why"), 4)),
            (
                (self._when(one.at), self._word(one.what), one.who, plain(self._l, one.why_sayings, one.why))
                for one in process.steps
            ),
        )

    def _deviations(self) -> None:
        say, found = self._say, self._found.deviations
        self._sheets.section(say("Deviations"))
        if not found.deviations:
            self._sheets.say(say("No deviation is on record."))
        for one in found.deviations:
            self._sheets.part(f"{self._word(one.state, 'DEVIATION_STATE_')} · {one.tag} · {one.deviation}")
            proposed = self._word(one.proposed_severity, "SEVERITY_")
            lasting = f" ({say('still outside')})"
            self._sheets.facts(
                [
                    (say("Phase"), one.phase),
                    (say("First outside"), self._when(one.first_out)),
                    (say("Detected"), self._when(one.detected)),
                    (say("Last outside"), f"{self._when(one.last_out)}{lasting if one.lasting else ''}"),
                    (say("Samples outside"), self._l.count(one.samples_out)),
                    (say("Tag"), f"{one.tag} ({one.unit})" if one.unit else one.tag),
                    (
                        say("Distance / limit"),
                        f"{self._number(one.magnitude)} / {self._number(one.limit)}",
                    ),
                    (say("Rule that fired"), rule(self._l, one)),
                    (say("Model version"), one.model_version),
                    (say("Who"), one.who),
                    (say("Why"), plain(self._l, one.why_sayings, one.why)),
                    (
                        say("Class"),
                        self._word(one.severity, "SEVERITY_") if one.severity else say("not classified"),
                    ),
                    (say("Class that the rules propose"), proposed if one.proposed_severity else ""),
                    (say("Impact"), one.impact),
                    (say("CAPA"), one.capa),
                ]
            )
        self._note_left(found.left_out)

    def _results(self) -> None:
        say, found = self._say, self._found.results
        self._sheets.section(say("Tests"))
        for one in found.findings:
            self._sheets.part(f"{self._word(one.finding)} · {one.test} · {one.result}")
            self._sheets.facts(
                [
                    (say("Value"), self._number(one.value, one.unit) if one.HasField("value") else ""),
                    (say("Specification"), self._limits(one)),
                    (say("Tested"), f"{self._when(one.tested)}\n{one.source} {one.record}"),
                    (say("Rule"), rule(self._l, one)),
                    (say("Investigation"), self._investigated(one)),
                ]
            )
        self._note_left(found.left_out)
        self._sheets.say(say("Results with nothing against them: %(n)s", n=self._l.count(found.others)))

    def _limits(self, one: Any) -> str:
        low = self._number(one.low) if one.HasField("low") else ""
        high = self._number(one.high) if one.HasField("high") else ""
        return f"{low} – {high}{FIXED_SPACE}{one.unit}" if low or high else ""

    def _investigated(self, one: Any) -> str:
        say = self._say
        retest = say("Retest: %(result)s", result=one.retest) if one.retest else ""
        by = ", ".join(filter(None, (self._moment(one.closed), one.who)))
        said = (
            self._word(f"result.{one.state}").removeprefix("result."),
            one.investigation,
            by,
            one.why,
            retest,
        )
        return "\n".join(filter(None, said))

    def _distribution(self) -> None:
        say, found = self._say, self._found.distribution
        self._sheets.section(say("Distribution"))
        if found.places:
            self._table(
                ((say("Place"), 5), (say("Received"), 2), (say("Sent on"), 2), (say("Unit"), 1)),
                (
                    (one.place, self._number(one.received), self._number(one.sent), one.unit)
                    for one in found.places
                ),
            )
        else:
            self._sheets.say(say("No shipment is on record."))
        self._note_left(found.left_out)
        if found.dispensed:
            self._sheets.say(
                say(
                    "Some of it was dispensed. How often is not shown: it would tell the lots of a run apart."
                )
            )

    def _exposed(self) -> None:
        say, found = self._say, self._found.exposed
        self._sheets.section(say("Exposed patients by site"))
        self._note_left(found.left_out)
        if not found.runs:
            self._sheets.say(say("No run of the safety loop lists this lot."))
            return
        self._sheets.say(
            say(
                "People are counted over all lots of a run. "
                "Groups of 1 to 9 and what tells of one are withheld."
            )
        )
        for run in found.runs:
            self._run(run)

    def _run(self, run: Any) -> None:
        say, count = self._say, self._l.count
        outcome = self._word(f"run.{run.outcome}").removeprefix("run.") if run.outcome else say("Going on")
        self._sheets.part(f"{say('Run')} {run.run}: {outcome}")
        journal = self._taken.exposures.get(run.run)
        self._sheets.facts(
            [
                (say("Root lot"), run.root),
                (say("Steps of material below it"), count(run.depth) if run.depth else ""),
                (say("Deviation"), run.deviation),
                (say("Run that it follows"), run.follows),
                (say("Run that follows it"), run.successor),
                (say("Began"), self._when(run.opened)),
                (say("Sealed"), self._when(run.sealed)),
                (say("Ended"), self._when(run.ended)),
                (
                    say("Stages, by wall time"),
                    "; ".join(f"{self._word(one.name)} {self._seconds(one.seconds)}" for one in run.stages),
                ),
                (say("Waits for"), self._word(run.waiting_for)),
                (say("Implicated lots"), self._lots(run.lots, run.lots_left_out)),
                (say("Name nobody"), count(run.unattributed)),
                (say("Name nobody, explained under signature"), count(run.explained)),
                (
                    say("Exposure journal"),
                    say("version %(n)s", n=count(journal.version)) if journal else say("not told"),
                ),
            ]
        )
        self._table(
            (
                (say("Site"), 2),
                (say("Dispenses"), 1.5),
                (say("Exposed patients"), 1.5),
                (say("Who know"), 1.5),
                (say("Epoch"), 1),
                (say("Digest"), 4),
            ),
            [
                *(
                    (one.site, *self._counts(one.people, one.told), *self._epoch(journal, one.site))
                    for one in run.sites
                ),
                (say("All sites"), *self._counts(run.people), "", ""),
            ],
        )
        self._note_left(run.sites_left_out)

    def _counts(self, people: Any, told: bool = True) -> tuple[str, str, str]:
        dispenses, patients, notified = people.dispenses, people.patients, people.notified
        return self._people(dispenses, told), self._people(patients, told), self._people(notified, told)

    def _epoch(self, journal: Any, site: str) -> tuple[str, str]:
        """What the journal of a run announced of a site; nothing where it did not tell."""
        if journal is None or site not in journal.sites:
            return "", ""
        return self._l.count(journal.sites[site].epoch), journal.sites[site].digest.hex()

    def _evidence(self) -> None:
        say, found = self._say, self._found.evidence
        self._sheets.section(say("Evidence"))
        self._note_left(found.left_out)
        if not found.runs:
            self._sheets.say(say("No evidence yet"))
        for run in found.runs:
            self._sheets.part(f"{say('Run')} {run.run}")
            ended = say("Follow-up ended at every site (all answered, or its time is over)")
            self._sheets.facts([(ended, self._yes(run.complete))])
            self._answers(run)
            if run.HasField("pooled"):
                self._pooled(run.pooled)
            if run.HasField("capa"):
                self._capa(run.capa)
            if run.HasField("insight"):
                self._insight(run.insight)

    def _answers(self, run: Any) -> None:
        say = self._say
        self._sheets.say(say("Answers are those of exposed patients: comparators are not among them."))
        self._table(
            (
                (say("Site"), 2),
                (say("Plans"), 1.5),
                (say("Answered"), 1.5),
                (say("of them with a complaint"), 1.6),
                (say("Release"), 1.2),
                (say("Exposed with a complaint"), 2),
                (say("Comparators with a complaint"), 2),
            ),
            [
                *((one.site, *self._asked(one.people), *self._released(one)) for one in run.sites),
                (say("All sites"), *self._asked(run.people), "", "", ""),
            ],
        )
        self._note_left(run.sites_left_out)

    def _asked(self, people: Any) -> tuple[str, str, str]:
        affected = self._people(people.affected) if people.HasField("affected") else ""
        return self._people(people.plans), self._people(people.answered), affected

    def _released(self, site: Any) -> tuple[str, str, str]:
        if not site.HasField("released"):
            return "", "", ""
        told = site.released
        number = self._l.count(told.number)
        final = f"{number} ({self._say('final')})" if told.final else number
        return final, self._arm(told.exposed), self._arm(told.comparators)

    def _arm(self, arm: Any) -> str:
        cases = self._say("withheld") if arm.withheld else self._l.count(arm.cases)
        return f"{cases} / {self._l.count(arm.patients)}" if arm.patients else cases

    def _pooled(self, pooled: Any) -> None:
        say = self._say
        sites = say("%(n)s of %(all)s", n=self._l.count(pooled.sites_pooled), all=self._l.count(pooled.sites))
        self._sheets.facts(
            [
                (say("Risk of the exposed over that of the comparators"), self._estimate(pooled.risk_ratio)),
                (say("Difference of rates, in cases a day"), self._estimate(pooled.rate_difference)),
                (say("Sites that the estimates rest on"), sites),
            ]
        )

    def _capa(self, capa: Any) -> None:
        say, when, signed = self._say, self._moment, self._signed
        category = self._word(capa.filing_category, "CHANGE_FILING_")
        effective = self._word(capa.effectiveness, "EFFECTIVENESS_OUTCOME_")
        stays = self._word(capa.limit_kept, "LIMIT_KEPT_") or self._yes(capa.limit_after >= capa.limit_before)
        self._sheets.facts(
            [
                (say("CAPA"), f"{capa.capa}: {self._word(capa.state, 'CAPA_STATE_')}"),
                (say("Deviation"), capa.deviation),
                (say("Product"), capa.product),
                (say("Tag"), capa.tag),
                (
                    say("Limit before / after"),
                    f"{self._number(capa.limit_before)} / {self._number(capa.limit_after)}",
                ),
                (say("The limit stays as it is"), stays),
                (say("Proposed"), when(capa.proposed)),
                (say("Approved"), signed(capa.approved, capa.approved_by, capa.approval_meaning)),
                (say("Refused"), when(capa.refused)),
                (
                    say("Change validated"),
                    signed(
                        capa.validated, capa.validated_by, capa.validation_meaning, capa.validation_record
                    ),
                ),
                (
                    say("Filing assessed"),
                    signed(
                        capa.filing_assessed,
                        capa.filing_assessed_by,
                        capa.filing_meaning,
                        category,
                        capa.filing_reference,
                    ),
                ),
                (say("Effective"), when(capa.effective)),
                (
                    say("Limits"),
                    say("version %(n)s", n=self._l.count(capa.limits_version)) if capa.limits_version else "",
                ),
                (
                    say("Effectiveness checked"),
                    signed(capa.checked, capa.checked_by, capa.check_meaning, effective),
                ),
            ]
        )

    def _insight(self, insight: Any) -> None:
        say = self._say
        self._sheets.facts(
            [
                (
                    say("Finding"),
                    f"{plain(self._l, insight.statement_sayings, insight.statement)}\n{insight.insight}",
                ),
                (say("Research has it in its records"), self._yes(insight.recorded)),
            ]
        )

    def _signed(self, at: Any, who: str, meaning: str, *said: str) -> str:
        """When it was signed with what was said; below it who signed, and what that means."""
        say = self._say
        when = " ".join(filter(None, (self._moment(at), *said)))
        by = say("Signed by %(who)s", who=who) if who else ""
        return "\n".join(filter(None, (when, by, self._means(meaning))))

    def _means(self, meaning: str) -> str:
        say = self._say
        return say("The signature means: %(meaning)s", meaning=meaning) if meaning else ""

    def _why(self, one: Any) -> str:
        """Why somebody decided so, and below it what the signature means."""
        why = plain(self._l, one.why_sayings, one.why)
        return "\n".join(filter(None, (why, self._means(one.meaning))))

    def _about(self, one: Any) -> str:
        """What a decision is about. That of a hazard is about its class, which stands with the decision."""
        return "\n".join(filter(None, ("" if hazard(one) else one.subject, one.run)))

    def _decision(self, one: Any) -> str:
        what = self._word(one.what)
        return f"{what}\n{self._say(hazard(one))}" if hazard(one) else what

    def _decisions(self) -> None:
        say, found = self._say, self._found.decisions
        self._sheets.section(say("Decisions"))
        self._note_left(found.left_out)
        if not found.decisions:
            self._sheets.say(say("Nobody has decided anything yet."))
            return
        self._table(
            ((say("When"), 2), (say("Decision"), 2.4), (say("Who"), 2), (say("Why"), 4), (say("About"), 2)),
            (
                (
                    self._when(one.at),
                    self._decision(one),
                    one.who,
                    self._why(one),
                    self._about(one),
                )
                for one in found.decisions
            ),
        )
