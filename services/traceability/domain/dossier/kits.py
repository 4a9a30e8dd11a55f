"""The page of a blinded study's kit: what of it would name the lots inside is left out.

Whoever has the kit in hand may read its page. What it was made from, and what
the runs that list it are about, is read from the lots inside: from there the
way down is open, and it names the kit.
"""

from __future__ import annotations

from pharmaloop.traceability.v1 import dossier_pb2 as page

#: Of a run that lists the kit: what it is about, and what it waits for, tell a lot or its product.
_OF_RUN = ("root", "depth", "deviation", "waiting_for", "lots", "lots_left_out")
#: What followed from a run names product and process.
_OF_EVIDENCE = ("capa", "insight", "pooled")


def withheld(shown: page.LotDossier) -> page.LotDossier:
    """The page without them; decisions that belong to a run are counted as left out."""
    kept = page.LotDossier()
    kept.CopyFrom(shown)
    kept.inputs_withheld = True
    _clear(kept.material, ("inputs", "inputs_left_out"))
    for run in kept.exposed.runs:
        _clear(run, _OF_RUN)
    for answers in kept.evidence.runs:
        _clear(answers, _OF_EVIDENCE)
    own = [decision for decision in kept.decisions.decisions if not decision.run]
    kept.decisions.left_out += len(kept.decisions.decisions) - len(own)
    del kept.decisions.decisions[:]
    kept.decisions.decisions.extend(own)
    return kept


def _clear(part: page.MaterialSection | page.ExposedRun | page.RunEvidence, fields: tuple[str, ...]) -> None:
    for field in fields:
        part.ClearField(field)
