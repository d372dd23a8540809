"""Types of the compiled module; native/python/ says what each part does."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]
Rows = NDArray[np.int32]
Flags = NDArray[np.bool_]

PANEL: int

def instruction_sets() -> list[str]: ...
def has_bf16() -> bool: ...
def peak(engine: Engine, seconds: float) -> float: ...
def advantages(
    rewards: Floats,
    values: Floats,
    starts: Floats,
    last_values: Floats,
    last_starts: Floats,
    gamma: float,
    gae_lambda: float,
) -> Floats: ...

class Engine:
    def __init__(self, instruction_set: str, n_threads: int) -> None: ...
    @property
    def instruction_set(self) -> str: ...
    @property
    def n_threads(self) -> int: ...

class Mlp:
    def __init__(
        self,
        engine: Engine,
        widths: list[int],
        hidden: str,
        last: str,
        precision: str = "float32",
        has_target: bool = True,
    ) -> None: ...
    def use(
        self,
        parameters: Floats,
        first_moment: Floats | None,
        second_moment: Floats | None,
        target: Floats | None,
    ) -> None: ...
    def refresh(self) -> None: ...
    def forward(self, x: Floats) -> Floats: ...
    @property
    def layout(self) -> list[tuple[int, int, int, int]]: ...
    @property
    def size(self) -> int: ...

class Normalizer:
    def __init__(
        self,
        mean: Floats | None = None,
        scale: Floats | None = None,
        clip: float = 0.0,
        reward_scale: float = 0.0,
        reward_clip: float = 0.0,
    ) -> None: ...

class _OffPolicy:
    def use_replay(
        self,
        observations: Floats,
        following: Rows,
        actions: Floats,
        rewards: Floats,
        ends: Flags,
    ) -> None: ...

class Sac(_OffPolicy):
    def __init__(
        self,
        actor: Mlp,
        critics: list[Mlp],
        batch: int,
        gamma: float,
        tau: float,
        entropy: Floats,
        learn_entropy: bool,
        target_entropy: float,
        beta1: float,
        beta2: float,
        epsilon: float,
        weight_decay: float,
    ) -> None: ...
    def step(
        self,
        indices: Indices,
        noise: Floats,
        learning_rate: float,
        n_done: int,
        target_update_interval: int = 1,
        n_before: int = 0,
        normalizer: Normalizer = ...,
    ) -> NDArray[np.float64]: ...

class Td3(_OffPolicy):
    def __init__(
        self,
        actor: Mlp,
        critics: list[Mlp],
        batch: int,
        gamma: float,
        tau: float,
        target_noise: float,
        target_noise_clip: float,
        beta1: float,
        beta2: float,
        epsilon: float,
        weight_decay: float,
    ) -> None: ...
    def step(
        self,
        indices: Indices,
        noise: Floats,
        learning_rate: float,
        n_done: int,
        policy_delay: int = 2,
        normalizer: Normalizer = ...,
    ) -> NDArray[np.float64]: ...

class Ppo:
    def __init__(
        self,
        policy: Mlp,
        value: Mlp,
        discrete: bool,
        log_std: Floats,
        log_std_first: Floats,
        log_std_second: Floats,
        batch: int,
        normalize_advantage: bool,
        entropy_weight: float,
        value_weight: float,
        max_gradient_norm: float,
        target_kl: float,
        beta1: float,
        beta2: float,
        epsilon: float,
        weight_decay: float,
    ) -> None: ...
    def epoch(
        self,
        indices: Indices,
        observations: Floats,
        actions: Floats,
        values: Floats,
        log_probs: Floats,
        advantages: Floats,
        returns: Floats,
        learning_rate: float,
        n_done: int,
        clip_range: float,
        clip_range_value: float = 0.0,
    ) -> tuple[NDArray[np.float64], int]: ...
