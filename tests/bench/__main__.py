"""`make bench`."""

import sys

from tests.bench.framework.run import main

sys.exit(main(sys.argv[1:]))
