"""Watch the newest run's best policy: `gallop watch`."""

import sys

from gallop.commands.cli import main

sys.exit(main(["watch", *sys.argv[1:]]))
