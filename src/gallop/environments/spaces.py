"""Gymnasium's environments and spaces as types. What is in them is the task's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import gymnasium

Env: TypeAlias = "gymnasium.Env[Any, Any]"
Space: TypeAlias = "gymnasium.Space[Any]"
