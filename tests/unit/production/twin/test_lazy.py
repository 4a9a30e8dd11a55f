"""A service that waits for work pays for neither SciPy nor scikit-learn."""

from __future__ import annotations

import subprocess
import sys


def test_the_twin_is_imported_without_the_libraries_that_solve() -> None:
    code = """
import importlib, pkgutil, sys
from services.production.domain import twin
for module in pkgutil.iter_modules(twin.__path__):
    importlib.import_module(f"{twin.__name__}.{module.name}")
print(sorted(name for name in ("scipy", "sklearn") if name in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
