"""Train a cheetah, score it, and make a film of it.

    python examples/train_and_film.py                                # about four minutes
    python examples/train_and_film.py total_timesteps=2000 segment=500 evaluation.interval=500

Each argument changes one setting of the example experiment "quickstart". `evaluation.interval` is
the setting `interval` in the section `evaluation`.
"""

import sys

import yaml

import gallop


def settings_from(arguments: list[str]) -> dict:
    """Turn ["segment=1000", "evaluation.interval=1000"] into nested settings."""
    settings: dict = {}
    for argument in arguments:
        name, _, value = argument.partition("=")
        section, _, last = name.rpartition(".")
        target = settings.setdefault(section, {}) if section else settings
        target[last] = yaml.safe_load(value)
    return settings


def main() -> None:
    # 1. An experiment is everything that determines the result: task, algorithm, seeds, settings.
    experiment = gallop.experiment("quickstart", **settings_from(sys.argv[1:]))

    # 2. Train it. The new run folder below results/ has policies, numbers, figures and films.
    run = gallop.run(experiment)
    print("run folder:", run.path)

    # 3. Score the best policy on the ten evaluation seeds, which training never uses.
    episodes = gallop.evaluate(run)
    print(f"mean return of the best policy: {episodes.returns.mean():,.1f}")

    # 4. Film one episode. Without `output`, a window opens if there is a display.
    gallop.watch(run, n_episodes=1, output="cheetah.mp4")


# The guard is necessary: films of milestones are made in a child process, which imports this file.
if __name__ == "__main__":
    main()
