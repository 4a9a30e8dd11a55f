"""The production service without its reactors: commands by gRPC, decided, published, answered."""

from __future__ import annotations

from dataclasses import replace

from services.kit.app import main
from services.production.main import SPEC

if __name__ == "__main__":
    main(replace(SPEC, reactors=()))
