"""Changes of a MuJoCo task's simulator, to see how far a policy's return depends on it.

A return that vanishes at half the physics time step, or with a slightly heavier body, is a property
of the simulator and not of the robot.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from gallop.environments.spaces import Action, Env, Observation
from gallop.errors import ExperimentError
from gallop.experiments.settings import Physics

if TYPE_CHECKING:
    from gymnasium.envs.mujoco import MujocoEnv


def with_physics(env: Env, task: str, physics: Physics) -> Env:
    """Change an environment's simulator, before its first reset.

    Args:
        env: the environment.
        task: its id, for error messages.
        physics: the changes.

    Raises:
        ExperimentError: if it has no MuJoCo model, or its timestep is no multiple of the new
            physics step.
    """
    simulator: Any = env.unwrapped
    if not hasattr(simulator, "mujoco_renderer"):
        raise ExperimentError(f"--physics: {task} is not one of Gymnasium's MuJoCo tasks")
    _change(simulator, physics)
    return delayed(env, physics.action_delay) if physics.action_delay else env


def _change(simulator: MujocoEnv, physics: Physics) -> None:
    import mujoco

    model: Any = simulator.model
    if physics.timestep is not None:
        n = simulator.dt / physics.timestep
        if abs(n - round(n)) > 1e-6 or round(n) < 1:
            raise ExperimentError(
                f"--physics: a timestep of {simulator.dt:g} s is no multiple of "
                f"{physics.timestep:g} s; nearest that divides it: "
                f"{simulator.dt / max(1, round(n)):.6g}"
            )
        simulator.frame_skip, model.opt.timestep = round(n), physics.timestep
    enumerations = {
        "integrator": {
            "euler": mujoco.mjtIntegrator.mjINT_EULER,
            "rk4": mujoco.mjtIntegrator.mjINT_RK4,
            "implicit": mujoco.mjtIntegrator.mjINT_IMPLICIT,
            "implicitfast": mujoco.mjtIntegrator.mjINT_IMPLICITFAST,
        },
        "solver": {
            "pgs": mujoco.mjtSolver.mjSOL_PGS,
            "cg": mujoco.mjtSolver.mjSOL_CG,
            "newton": mujoco.mjtSolver.mjSOL_NEWTON,
        },
        "cone": {
            "pyramidal": mujoco.mjtCone.mjCONE_PYRAMIDAL,
            "elliptic": mujoco.mjtCone.mjCONE_ELLIPTIC,
        },
    }
    for name, values in enumerations.items():
        if (chosen := getattr(physics, name)) is not None:
            setattr(model.opt, name, int(values[chosen]))
    if physics.friction is not None:
        model.geom_friction *= physics.friction
        model.pair_friction *= physics.friction
    if physics.gravity is not None:
        model.opt.gravity[2] = physics.gravity
    if physics.mass is not None:
        model.body_mass *= physics.mass
        model.body_inertia *= physics.mass
        mujoco.mj_setConst(model, mujoco.MjData(model))  # what MuJoCo derives from masses


def delayed(env: Env, n_timesteps: int) -> Env:
    """Let every action take effect n timesteps later.

    Args:
        env: an environment with a Box action space.
        n_timesteps: of delay, at least 1.
    """
    import gymnasium
    import numpy as np

    class Delayed(gymnasium.Wrapper[Observation, Action, Observation, Action]):
        """The environment with late actions."""

        def reset(self, **kwargs: Any) -> tuple[Observation, dict[str, Any]]:
            space: Any = self.action_space
            rest = np.clip(np.zeros(space.shape, space.dtype), space.low, space.high)
            self._waiting = deque([rest] * n_timesteps)
            return self.env.reset(**kwargs)

        def step(self, action: Action) -> Any:
            self._waiting.append(np.array(action))
            return self.env.step(self._waiting.popleft())

    return Delayed(env)
