"""Train a cheetah, and make a film of it.

python examples/train_and_film.py                                # about four minutes
python examples/train_and_film.py total_timesteps=8000 segment=1000 evaluation.interval=1000
"""

import sys
from pathlib import Path

import yaml

import gallop


def main() -> None:
    settings: dict = {}
    for argument in sys.argv[1:]:
        name, _, value = argument.partition("=")
        section, _, last = name.rpartition(".")
        (settings.setdefault(section, {}) if section else settings)[last] = yaml.safe_load(value)
    run = gallop.run(gallop.experiment("quickstart", **settings))
    gallop.watch(run.path, n_episodes=1, output=Path("cheetah.mp4"))


if __name__ == "__main__":  # films are made in a child process
    main()
