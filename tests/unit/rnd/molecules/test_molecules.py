"""Structures are read or refused with a reason; molecules, targets and products are linked and single."""

from __future__ import annotations

import random

import pytest

from services.rnd.domain.errors import Absent, Malformed, Refusal
from services.rnd.domain.molecules import form, registry, smiles
from services.rnd.domain.molecules.registry import Molecule, Product, Provenance, Row, Target

SOURCE = Provenance("approved drugs 2026", "row 7")
WARFARIN = "CC(=O)CC(c1ccccc1)C1=C(O)c2ccccc2OC1=O"


@pytest.mark.parametrize(
    ("text", "formula"),
    [
        (WARFARIN, "C19H16O4"),
        ("CC(=O)Oc1ccccc1C(=O)O", "C9H8O4"),
        ("Cn1c(=O)c2c(ncn2C)n(C)c1=O", "C8H10N4O2"),
        ("Cn1cnc2n(C)c(=O)[nH]c(=O)c12", "C7H8N4O2"),
        ("CC(C)Cc1ccc(cc1)[C@@H](C)C(=O)O", "C13H18O2"),
        ("N[C@@H](Cc1c[nH]c2ccccc12)C(=O)O", "C11H12N2O2"),
        ("C[N+](C)(C)CC(=O)[O-]", "C5H11NO2"),
        ("O=S(=O)(c1ccc(Cl)cc1)N", "C6H6ClNO2S"),
        ("[13CH4]", "CH4"),
        ("[NH4+]", "H4N+"),
        ("F/C=C/F", "C2H2F2"),
        ("C%12CCCCC%12", "C6H12"),
        ("C1CC1C1CC1", "C6H10"),
        ("CP(=O)(O)O", "CH5O3P"),
        ("[H][H]", "H2"),
        ("c1ccc2c(c1)ccc1ccccc12", "C14H10"),
        ("[Pt+2]", "Pt+2"),
        ("c1cc[se]c1", "C4H4Se"),
    ],
)
def test_a_structure_has_its_formula(text: str, formula: str) -> None:
    assert smiles.read(text).formula == formula


@pytest.mark.parametrize(
    ("text", "reason", "words"),
    [
        ("", "EMPTY", "for example"),
        ("CC(", "SYNTAX", "branch"),
        ("CC(C", "SYNTAX", "not closed"),
        ("CC)C", "SYNTAX", "closes no branch"),
        ("C()C", "SYNTAX", "ends with an atom"),
        ("C1CCC", "SYNTAX", "ring bond 1 is not closed"),
        ("C11", "SYNTAX", "bound to itself"),
        ("C12CC12", "SYNTAX", "bound once"),
        ("C=1CCCC#1", "SYNTAX", "two bond orders"),
        ("C[NH3", "SYNTAX", "bracket is not closed"),
        ("C[XX]", "SYNTAX", "no atom"),
        ("C[Qq]C", "ELEMENT", "not allowed"),
        ("C[U]C", "ELEMENT", "not allowed"),
        ("C==C", "SYNTAX", "between two atoms"),
        ("=CC", "SYNTAX", "between two atoms"),
        ("CC=", "SYNTAX", "an atom is due"),
        ("C C", "SYNTAX", "has no meaning"),
        ("C(C)(C)(C)(C)C", "VALENCE", "4 at most"),
        ("CF(C)C", "VALENCE", "1 at most"),
        ("[Na+].CC(=O)[O-]", "MIXTURE", "one connected"),
        ("CC.", "SYNTAX", "an atom is due"),
        ("C" * 5_000, "TOO_LONG", "at most"),
        ("aspirin", "SYNTAX", "has no meaning"),
    ],
)
def test_what_is_no_molecule_is_refused_with_the_place(text: str, reason: str, words: str) -> None:
    with pytest.raises(Malformed, match=words) as refused:
        smiles.read(text)
    assert (refused.value.reason, refused.value.field) == (reason, "smiles")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (WARFARIN, "OC1=C(C(=O)Oc2ccccc12)C(CC(C)=O)c1ccccc1"),
        ("c1ccccc1O", "C1=CC=CC=C1O"),
        ("OC", "CO"),
        ("c1ccc2ccccc2c1", "C1=CC=C2C=CC=CC2=C1"),
        ("c1cc[nH]c1", "C1=CNC=C1"),
        ("CC(C)C", "C(C)(C)C"),
    ],
)
def test_one_molecule_written_in_two_ways_is_one(one: str, other: str) -> None:
    assert smiles.read(one).key == smiles.read(other).key
    assert smiles.same(smiles.read(one), smiles.read(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("CCCO", "CC(C)O"),
        ("C1CCC2CCCCC2C1", "C1CCCC1C1CCCC1"),  # the same neighbourhoods, other rings
        ("c1ccccc1", "C1CCCCC1"),
        ("CC(=O)O", "CC(=O)[O-]"),
        ("C", "[13CH4]"),
        ("Oc1ccccc1C", "Oc1cccc(C)c1"),
        ("C12C3C4C1C5C2C3C45", "C1CC2CC1C=C2"),
    ],
)
def test_two_molecules_are_two(one: str, other: str) -> None:
    assert not smiles.same(smiles.read(one), smiles.read(other))


def test_symmetric_cages_match_whatever_atom_comes_first() -> None:
    cubane = smiles.read("C12C3C4C1C5C2C3C45")
    assert smiles.same(cubane, smiles.read("C12C3C4C1C1C2C3C14"))
    # Cuneane: as many atoms, each with three neighbours as well.
    assert not smiles.same(cubane, smiles.read("C12C3C1C1C4C2C3C14"))


def test_any_writing_of_a_random_tree_is_the_same_molecule() -> None:
    chance = random.Random(5)

    def written(tree: dict[int, list[int]], root: int, parent: int | None) -> str:
        branches = [
            written(tree, to, root) for to in chance.sample(tree[root], len(tree[root])) if to != parent
        ]
        return "C" + "".join(f"({branch})" for branch in branches[:-1]) + "".join(branches[-1:])

    for _ in range(20):
        tree: dict[int, list[int]] = {0: []}
        for atom in range(1, 25):
            to = chance.choice([one for one in tree if len(tree[one]) < 4])
            tree[to].append(atom)
            tree[atom] = [to]
        one, other = (smiles.read(written(tree, chance.randrange(25), None)) for _ in range(2))
        assert smiles.same(one, other)


def registered(ident: str, text: str, **given: object) -> Molecule:
    return registry.molecule(ident, text, SOURCE, **given)  # type: ignore[arg-type]


def test_a_molecule_is_registered_once() -> None:
    one = registered("M1", f" {WARFARIN} ", name="warfarin")
    assert (one.smiles, one.formula, one.provenance) == (WARFARIN, "C19H16O4", SOURCE)
    assert registered("M1", WARFARIN, name="warfarin", held=one) is one
    with pytest.raises(Refusal, match="choose another id") as refused:
        registered("M1", "CCO", held=one)
    assert refused.value.reason == "ALREADY_EXISTS"
    other = "OC1=C(C(=O)Oc2ccccc12)C(CC(C)=O)c1ccccc1"
    assert registry.key_of(other) == one.key
    with pytest.raises(Refusal, match="registered as M1") as refused:
        registered("M2", other, alike=[one])
    assert (refused.value.reason, refused.value.field) == ("DUPLICATE", "smiles")


def test_enantiomers_are_two_molecules() -> None:
    left = registered("L", "N[C@@H](C)C(=O)O")
    assert registered("D", "N[C@H](C)C(=O)O", alike=[left]).key == left.key
    with pytest.raises(Refusal):
        registered("L2", "N[C@@H](C)C(=O)O", alike=[left])


def test_canonical_forms_decide_where_both_are_known() -> None:
    left = registered("L", "N[C@@H](C)C(=O)O", canoniser=lambda _: "C[C@H](N)C(=O)O")
    with pytest.raises(Refusal, match="registered as L"):
        registered("L2", "C[C@H](N)C(=O)O", alike=[left], canoniser=lambda _: "C[C@H](N)C(=O)O")


def test_rdkit_gives_one_text_where_it_is_installed() -> None:
    canonical = form.canoniser()
    if canonical is None:
        pytest.skip("the extra chemistry is not installed")
    assert canonical("OC(=O)C") == canonical("CC(O)=O")
    with pytest.raises(Malformed, match="RDKit"):
        canonical("c1cccc1")


def test_a_row_that_is_refused_leaves_the_batch_as_it_is() -> None:
    held = registered("M0", "CCO")
    rows = [
        Row("M1", "CCN"),
        Row("M2", "[Na+].[Cl-]"),
        Row("M3", "NCC"),
        Row("M0", "CCO"),
        Row("M4", ""),
        Row("M5", "OCC"),
        Row("M6", "c1ccccc1"),
        Row("bad id", "C"),
        Row("M1", "CCCC"),
    ]
    found = registry.batch(
        rows, Provenance("a list"), held={"M0": held}, by_key=lambda key: [held] if key == held.key else []
    )
    assert [one.molecule for one in found.accepted] == ["M1", "M6"]
    assert [one.provenance.record for one in found.accepted] == ["1", "7"]
    assert {number: refusal.reason for number, refusal in found.refused.items()} == {
        1: "MIXTURE",
        2: "DUPLICATE",
        3: "ALREADY_EXISTS",  # the same id and structure, but from another source
        4: "EMPTY",
        5: "DUPLICATE",
        7: "MALFORMED",
        8: "ALREADY_EXISTS",
    }


VKORC1 = registry.target("VKORC1", "vitamin K epoxide reductase", "Homo sapiens", SOURCE)
WANTED = Product("P1", "warfarin tablets", "M1", "VKORC1", "atrial fibrillation")


def linked(
    wanted: Product = WANTED,
    molecule: str | None = "M1",
    target: Target | None = VKORC1,
    held: Product | None = None,
    others: tuple[Product, ...] = (),
) -> Product:
    found = registered(molecule, WARFARIN) if molecule else None
    return registry.product(wanted, molecule=found, target=target, held=held, others=others)


def test_a_product_leads_to_its_molecule_and_target() -> None:
    assert linked() == WANTED
    assert linked(held=WANTED) == WANTED
    with pytest.raises(Absent, match="molecule M1 is not registered") as refused:
        linked(molecule=None)
    assert refused.value.field == "molecule"
    with pytest.raises(Absent, match="register it first"):
        linked(target=None)
    with pytest.raises(Malformed) as mismatch:
        linked(molecule="M2")
    assert mismatch.value.field == "molecule"


def test_the_same_product_under_another_id_or_with_other_content_is_refused() -> None:
    twin = Product("P2", "another name", "M1", "VKORC1", " Atrial  Fibrillation")
    with pytest.raises(Refusal, match="P2 has this molecule"):
        linked(others=(twin,))
    with pytest.raises(Refusal, match="other content"):
        linked(held=Product("P1", "warfarin tablets", "M1", "VKORC1", "thrombosis"))
    other = Product("P3", "warfarin", "M1", "VKORC1", "thrombosis")
    assert linked(others=(other,)) == WANTED


@pytest.mark.parametrize(
    ("field", "call"),
    [
        ("molecule", lambda: registered("", "C")),
        ("molecule", lambda: registered("-x", "C")),
        ("provenance.source", lambda: registry.molecule("M", "C", Provenance(""))),
        ("name", lambda: registry.target("T", " ", "Homo sapiens", SOURCE)),
        ("organism", lambda: registry.target("T", "t", "", SOURCE)),
        ("indication", lambda: linked(Product("P", "p", "M1", "VKORC1", ""))),
        ("target", lambda: linked(Product("P", "p", "M1", "", "i"))),
    ],
)
def test_what_is_missing_is_refused_by_its_name(field: str, call: object) -> None:
    assert callable(call)
    with pytest.raises(Malformed) as refused:
        call()
    assert refused.value.field == field
