"""Research as it is, in a process of its own."""

from services.kit.app import main
from services.rnd.main import SPEC

if __name__ == "__main__":
    main(SPEC)
