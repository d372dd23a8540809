"""The table of algorithms. A new algorithm needs a file in this package and an entry here."""

from __future__ import annotations

from gallop.algorithms.crossq import CROSSQ
from gallop.algorithms.ppo import PPO
from gallop.algorithms.sac import SAC
from gallop.algorithms.spec import AlgorithmSpec
from gallop.algorithms.td3 import TD3
from gallop.algorithms.tqc import TQC

ALGORITHMS: dict[str, AlgorithmSpec] = {spec.name: spec for spec in (SAC, TD3, PPO, TQC, CROSSQ)}
"""Name of the algorithm -> its specification."""
