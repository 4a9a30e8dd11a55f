"""Molecules, targets and products: registered once, with where they come from; structures are sealed."""

from __future__ import annotations

from typing import Any

import pytest

from pharmaloop.rnd.v1 import events_pb2 as events
from pharmaloop.rnd.v1 import service_pb2 as api
from services.kit.errors import Invalid, Rejected, Unknown
from tests.unit.rnd.memory import Research

WARFARIN = "CC(=O)CC(c1ccccc1)C1=C(O)c2ccccc2OC1=O"
#: The same molecule, begun at another atom.
ALSO = "OC1=C(C(CC(C)=O)c2ccccc2)C(=O)Oc2ccccc12"


def target(research: Research, **changes: Any) -> None:
    given = {"target": "VKORC1", "name": "Vitamin K epoxide reductase", "provenance": "Rost 2004", **changes}
    research.call("RegisterTarget", api.RegisterTargetRequest(**given))


def molecule(research: Research, **changes: Any) -> None:
    given = {
        "molecule": "warfarin",
        "name": "Warfarin",
        "smiles": WARFARIN,
        "provenance": "library",
        "target": "VKORC1",
    }
    research.call("RegisterMolecule", api.RegisterMoleculeRequest(**{**given, **changes}))


def product(research: Research, **changes: Any) -> None:
    given = {
        "product": "maker-1/item/warfarin",
        "name": "Warfarin 3 mg",
        "molecule": "warfarin",
        "indication": "atrial fibrillation",
        **changes,
    }
    research.call("RegisterProduct", api.RegisterProductRequest(**given))


def test_a_product_leads_to_its_molecule_target_and_provenance(research: Research) -> None:
    target(research)
    molecule(research)
    product(research)
    (told,) = research.call(
        "ListProducts", api.ListProductsRequest(indication="atrial fibrillation")
    ).products
    assert (told.molecule, told.target, told.actor) == ("warfarin", "VKORC1", "scientist")
    (one,) = research.call("ListMolecules", api.ListMoleculesRequest(target="VKORC1")).molecules
    assert (one.provenance, one.HasField("structure")) == ("library", False)
    shown = research.call("GetMolecule", api.GetMoleculeRequest(molecule="warfarin"))
    assert shown.structure.smiles == WARFARIN
    assert [t.target for t in research.call("ListTargets", api.ListTargetsRequest()).targets] == ["VKORC1"]


def test_a_structure_is_kept_sealed_and_registered_once(research: Research) -> None:
    target(research)
    molecule(research)
    assert WARFARIN not in repr((research.database.docs, research.database.outbox))
    with pytest.raises(Rejected, match="KNOWN_STRUCTURE"):
        molecule(research, molecule="coumadin", smiles=ALSO)
    molecule(research)
    assert len(research.told(events.MoleculeRegistered)) == 1


def test_what_is_registered_is_not_changed(research: Research) -> None:
    target(research)
    target(research)
    assert len(research.told(events.TargetRegistered)) == 1
    with pytest.raises(Rejected) as refused:
        target(research, provenance="another")
    assert (refused.value.reason, refused.value.field) == ("ALREADY_REGISTERED", "provenance")


def test_what_is_named_is_registered_before(research: Research) -> None:
    with pytest.raises(Unknown, match="UNKNOWN_TARGET"):
        molecule(research)
    with pytest.raises(Unknown, match="UNKNOWN_MOLECULE"):
        product(research)
    with pytest.raises(Unknown, match="UNKNOWN_MOLECULE"):
        research.call("GetMolecule", api.GetMoleculeRequest(molecule="x"))


@pytest.mark.parametrize(
    ("changes", "field"),
    [({"smiles": "C1CC"}, "smiles"), ({"smiles": ""}, "smiles"), ({"smiles": "C.C"}, "smiles"),
     ({"provenance": ""}, "provenance"), ({"name": " "}, "name"), ({"molecule": ""}, "molecule")],
)  # fmt: skip
def test_a_molecule_has_one_structure_and_a_source(research: Research, changes: Any, field: str) -> None:
    target(research)
    with pytest.raises(Invalid) as refused:
        molecule(research, **changes)
    assert refused.value.field == field


def test_a_product_has_a_canonical_key(research: Research) -> None:
    with pytest.raises(Invalid, match="NOT_CANONICAL"):
        product(research, product="warfarin", molecule="")
