"""Structures are read or refused with a reason; one molecule written in two ways is one."""

from __future__ import annotations

import random

import pytest

from services.refusals import Malformed
from services.rnd.domain.molecules import smiles

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
