"""Run the reference search: `gallop tune configs/halfcheetah_sac_search.yaml`."""

import sys

from gallop.commands.cli import main

sys.exit(main(["tune", "configs/halfcheetah_sac_search.yaml", *sys.argv[1:]]))
