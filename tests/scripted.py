"""Real physics of Gymnasium's planar robots, driven by scripts: MuJoCo computes the contacts.

A script says where joints should be, and a servo pushes them there. The root's x, z and pitch may
be on a servo, too, as on a rail; where z is not, the floor alone carries the robot.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import gymnasium
import mujoco
import numpy as np

from gallop.evaluation.audit.anatomy import Anatomy, anatomy
from gallop.evaluation.audit.recorder import Recorder
from gallop.evaluation.audit.trajectory import Trajectory

Script = Callable[[float], Mapping[str, float]]
"""Seconds -> where the joints of these names should be."""
TURN = 2 * np.pi
DT = 0.004
SERVO = 60.0
"""Angular frequency of the servos in rad/s."""
STEP, SPEED, DUTY = 0.8, 0.8, 0.6  # of the walk: seconds per stride, m/s, share on the floor
THIGH, SHIN = 0.45, 0.5  # of Walker2d, in m


def driven(
    robot: str,
    script: Script,
    seconds: float,
    controls: Callable[[int], float] = lambda step: 0.0,
) -> tuple[Trajectory, Anatomy]:
    """Drive a robot for some seconds, at physics steps of 4 ms and with its own integrator.

    Args:
        robot: id of the task of a planar robot, or MJCF.
        script: joints that it does not name are free.
        seconds: to record.
        controls: number of the physics step -> control of all actuators.
    """
    model = compiled(robot)
    model.opt.timestep = DT
    data, here = mujoco.MjData(model), mujoco.MjData(model)
    for name, place in script(0.0).items():
        data.qpos[model.jnt_qposadr[model.joint(name).id]] = place
    recorder, inertia = Recorder(model, data), np.zeros((model.nv, model.nv))
    for step in range(round(seconds / DT)):
        first, second = script(step * DT), script((step + 1) * DT)
        names = [name for name in first if name in second]
        now, soon = (np.array([each[name] for name in names]) for each in (first, second))
        joints = [model.joint(name).id for name in names]
        places, speeds = model.jnt_qposadr[joints], model.jnt_dofadr[joints]
        data.qfrc_applied[:] = 0
        here.qpos[:], here.qvel[:] = data.qpos, data.qvel
        mujoco.mj_forward(model, here)
        mujoco.mj_fullM(model, here, inertia)
        error, late = now - here.qpos[places], (soon - now) / DT - here.qvel[speeds]
        push = inertia[np.ix_(speeds, speeds)] @ (SERVO**2 * error + 2 * SERVO * late)
        data.qfrc_applied[speeds] = push + (here.qfrc_bias - here.qfrc_passive)[speeds]
        data.ctrl[:] = controls(step)
        recorder.step(1)
    assert recorder.trajectory().warnings.sum() == 0
    return recorder.trajectory(), anatomy(model)


def compiled(robot: str) -> Any:
    """The model of a task's robot, or of MJCF."""
    if robot.lstrip().startswith("<"):
        return mujoco.MjModel.from_xml_string(robot)
    env: Any = gymnasium.make(robot).unwrapped
    return env.model


DOG = """
<mujoco>
  <default><geom mass="0.3"/></default>
  <worldbody>
    <geom type="plane" size="50 5 0.1"/>
    <body name="trunk" pos="0 0 0.42">
      <joint name="rootx" type="slide" axis="1 0 0"/>
      <joint name="rootz" type="slide" axis="0 0 1" ref="0.42"/>
      <joint name="rooty" type="hinge" axis="0 1 0"/>
      <geom type="box" size="0.2 0.1 0.05" mass="5"/>
      {legs}
    </body>
  </worldbody>
</mujoco>
"""
LEG = """
      <body name="{side}_thigh" pos="{x} 0 0">
        <joint name="{side}_hip" axis="0 1 0" range="-120 120"/>
        <geom type="capsule" fromto="0 0 -0.03 0 0 -0.17" size="0.015"/>
        <body name="{side}_shin" pos="0 0 -0.2">
          <joint name="{side}_knee" axis="0 1 0" range="-150 150"/>
          <geom type="capsule" fromto="0 0 0 0 0 -0.205" size="0.018"/>
          <body name="{side}_foot" pos="0 0 -0.2"><geom type="sphere" size="0.023"/></body>
        </body>
      </body>
"""
DOG = DOG.format(legs="".join(LEG.format(side=side, x=x)
                              for side, x in (("rear", -0.2), ("front", 0.2))))  # fmt: skip
"""As Unitree's Go1: each shin ends within a foot that is welded to it."""

JOINTS = {
    DOG: ("rear_hip", "rear_knee", "front_hip", "front_knee"),
    "HalfCheetah-v5": ("bthigh", "bshin", "bfoot", "fthigh", "fshin", "ffoot"),
    "Hopper-v5": ("thigh_joint", "leg_joint", "foot_joint"),
    "Walker2d-v5": ("thigh_joint", "leg_joint", "foot_joint",
                    "thigh_left_joint", "leg_left_joint", "foot_left_joint"),
}  # fmt: skip


def held(robot: str, **places: float) -> dict[str, float]:
    """The root's pitch and all joints are 0, or at these places."""
    return dict.fromkeys(("rooty", *JOINTS[robot]), 0.0) | places


def leg(forward: float, height: float, tilt: float = 0.0) -> tuple[float, float, float]:
    """Angles of hip, knee and ankle of Walker2d that put the ankle this far before the hip and this
    far below it, with a foot that is level, or tilted with its toe down."""
    length = min(np.hypot(forward, height), 0.999 * (THIGH + SHIN))
    bend = np.arccos((THIGH**2 + SHIN**2 - length**2) / (2 * THIGH * SHIN))
    knee = -(np.pi - bend)
    inner = np.arcsin(SHIN * np.sin(bend) / length)
    hip = np.arctan2(forward, height) + inner
    return hip, knee, -(hip + knee) - tilt


def walking(time: float, height: float = 0.88, tilt: float = 0.0) -> dict[str, float]:
    """Walker2d on a rail: each foot stands for a share of the time, and then swings."""
    places = {"rootx": SPEED * time, "rooty": 0.0}
    reach = SPEED * STEP * DUTY / 2
    for side, shift in (("", 0.0), ("_left", 0.5)):
        phase = (time / STEP + shift) % 1
        if phase < DUTY:
            forward, lift = reach - SPEED * STEP * phase, 0.0
        else:
            swing = (phase - DUTY) / (1 - DUTY)
            forward = -reach + 2 * reach * (swing - np.sin(TURN * swing) / TURN)
            lift = 0.1 * np.sin(np.pi * swing) ** 2
        angles = leg(forward, height - lift, tilt)
        for joint, angle in zip(("thigh", "leg", "foot"), angles, strict=True):
            places[f"{joint}{side}_joint"] = float(angle)
    return places


def smooth(time: float, start: float, end: float) -> float:
    """From 0 to 1 between two times, without a jerk."""
    share = float(np.clip((time - start) / (end - start), 0, 1))
    return share - float(np.sin(TURN * share)) / TURN


def lifted(time: float, start: float, end: float, height: float) -> float:
    """Up from the floor and down again between two times."""
    share = float(np.clip((time - start) / (end - start), 0, 1))
    return height * float(np.sin(np.pi * share)) ** 2
