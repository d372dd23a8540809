"""The hyper-parameter search: `gallop tune`."""

import sys

from gallop.cli import main

sys.exit(main(["tune", *sys.argv[1:]]))
