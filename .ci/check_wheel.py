"""Check an installed wheel: it is not the checkout, it has its kernels, and it trains.

    python .ci/check_wheel.py [--without-kernels]

cibuildwheel runs this in the environment where it has installed a wheel.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import gallop
from gallop.policies import kernels

CHECKOUT = Path(__file__).resolve().parents[1]


def command(*arguments: str, folder: Path, check: bool = True) -> str:
    """Run `gallop` in a folder; what it prints."""
    print("$ gallop", *arguments, flush=True)
    done = subprocess.run(
        [sys.executable, "-m", "gallop", *arguments],
        cwd=folder, stdout=subprocess.PIPE, text=True, encoding="utf-8", check=check,
    )  # fmt: skip
    print(done.stdout, flush=True)
    return done.stdout


def main(with_kernels: bool) -> None:
    package = Path(gallop.__file__).resolve().parent
    assert not package.is_relative_to(CHECKOUT / "src"), f"{package} is the checkout's"
    assert bool(kernels.missing()) != with_kernels, kernels.missing() or "there are kernels"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        assert gallop.__version__ in command("--version", folder=folder)
        assert "gallop run quickstart" in command("presets", folder=folder)
        command("doctor", folder=folder, check=False)  # films may be missing here: no OpenGL
        command(
            *("run", "--algo", "sac", "--env", "Pendulum-v1", "-n", "2000", "--segment", "1000"),
            *("--evaluation.interval", "1000", "--milestones", "[50,100]"),
            *("--films", "false", "--quiet", "--name", "wheel"),
            folder=folder,
        )
        run = folder / "results" / "SAC_Pendulum-v1" / "wheel"
        provenance = json.loads((run / "provenance.json").read_text(encoding="utf-8"))
        assert provenance["learner"] == ("native" if with_kernels else "sb3"), provenance["learner"]
        assert "final" in command("evaluate", str(run / "final_model.zip"), folder=folder)
    print("the wheel works")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--without-kernels", action="store_true")
    main(with_kernels=not parser.parse_args().without_kernels)
