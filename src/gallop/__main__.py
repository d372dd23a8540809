"""`python -m gallop` is `gallop`."""

import sys

from gallop.cli import main

sys.exit(main())
