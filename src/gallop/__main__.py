"""`python -m gallop` is `gallop`."""

import sys

from gallop.commands.cli import main

sys.exit(main())
