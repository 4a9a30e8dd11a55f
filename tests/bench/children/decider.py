"""The production service without its reactors: commands by gRPC, decided, published, answered."""

from __future__ import annotations

from dataclasses import replace

from services.kit.app import main
from services.production.main import SPEC
from tests.bench.framework.sampler import start_from_environment

if __name__ == "__main__":
    start_from_environment()
    main(replace(SPEC, reactors=()))
