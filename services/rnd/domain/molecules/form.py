"""The canonical form of a structure by RDKit, where the extra `chemistry` is installed.

RDKit is imported when it is first asked for (about 30 MB), not when the service starts. Nothing needs it: it
adds sanitising (aromaticity, valences of charged atoms) and one text for all ways to write a molecule,
stereo centres included.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache
from typing import Any

from services.rnd.domain.errors import Malformed


@cache
def canoniser() -> Callable[[str], str] | None:
    """A function from SMILES to canonical SMILES that raises Malformed; None without RDKit."""
    try:
        chem: Any = importlib.import_module("rdkit.Chem")
        importlib.import_module("rdkit.RDLogger").DisableLog("rdApp.*")
    except ImportError:
        return None

    def canonical(smiles: str) -> str:
        found = chem.MolFromSmiles(smiles)
        if found is None or not found.GetNumAtoms():
            said = "RDKit cannot make a molecule of this structure; check valences and aromatic rings"
            raise Malformed("STRUCTURE", said, "smiles")
        return str(chem.MolToSmiles(found))

    return canonical
