"""The newest run's best policy, moving: `gallop watch`."""

import sys

from gallop.commands.cli import main

sys.exit(main(["watch", *sys.argv[1:]]))
