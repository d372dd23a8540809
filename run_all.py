"""Run the reference experiment: `gallop run configs/halfcheetah_sac.yaml`."""

import sys

from gallop.commands.cli import main

sys.exit(main(["run", "configs/halfcheetah_sac.yaml", *sys.argv[1:]]))
