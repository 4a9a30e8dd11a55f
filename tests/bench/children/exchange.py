"""The exchange as it is, in a process of its own."""

from services.exchange.main import SPEC
from services.kit.app import main

if __name__ == "__main__":
    main(SPEC)
