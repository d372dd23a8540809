"""The compiled kernels: whether they were built, the instruction set, the threads, the networks.

They are the extension module `gallop._kernels`, built from `native/`. Without a C++ compiler Gallop
installs without it, and everything runs on SB3.
"""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gallop import machine
from gallop.policies.policy import Array

if TYPE_CHECKING:
    from gallop import _kernels


# Two threads share a gradient step (one critic each); a third would be idle.
MAX_THREADS = 2


@functools.cache
def missing() -> str:
    """Why the kernels cannot be imported; empty if they can."""
    try:
        import gallop._kernels  # noqa: F401
    except ImportError as error:
        return str(error)
    return ""


def n_threads(asked: int | None) -> int:
    """Number of threads of one run, at most two.

    Args:
        asked: the number requested; None: as many as the process may use. OMP_NUM_THREADS limits
            that number where several runs share the processors.
    """
    if asked is None:
        share = os.environ.get("OMP_NUM_THREADS", "")
        asked = machine.available_processors()
        if share.isdigit() and int(share) > 0:
            asked = min(asked, int(share))
    return min(MAX_THREADS, asked)


def engine(
    n_threads: int, name: str | None = None, *, sparse_below: float | None = None
) -> _kernels.Engine:
    """Make an engine: the threads and the instruction set that networks run on.

    Args:
        n_threads: number of threads.
        name: the instruction set; default: the best one that this processor supports.
        sparse_below: density below which products leave out zeros; 0: never; None: where it pays.
            It changes no bit.
    """
    from gallop import _kernels

    return _kernels.Engine(
        instruction_set=name or machine.instruction_set(),
        n_threads=n_threads,
        sparse_below=sparse_below,
    )


@functools.cache
def acting_engine() -> _kernels.Engine:
    """The engine of policies outside a learner: one thread, since their batches are small."""
    return engine(1)


class Shape(NamedTuple):
    """Layers of a multilayer perceptron."""

    widths: list[int]
    """Number of inputs, then the number of outputs of every layer."""
    hidden: str
    """Activation function of the hidden layers: relu or tanh."""
    last: str = "none"
    """Activation function of the last layer: none or tanh."""


class Mlp:
    """A multilayer perceptron in the kernels, with its numbers in NumPy arrays of one layout.

    The layout is the kernels' own (native/network.hpp): weights in panels of 32 columns, padded
    with zeros. `write` and `read` convert from and to PyTorch's [outputs, inputs].

    Attributes:
        kernel: the compiled network, which works on the arrays below.
        parameters: float32, flat.
        first_moment, second_moment: Adam's moments, of the same size; None if it does not learn.
        target: parameters of the target network; None if it has none.
    """

    def __init__(
        self,
        engine: _kernels.Engine,
        shape: Shape,
        learns: bool = False,
        target: bool = False,
    ) -> None:
        """
        Args:
            engine: threads and instruction set.
            shape: sizes and activation functions.
            learns: whether to allocate Adam's moments.
            target: whether to allocate a target network.
        """
        from gallop import _kernels

        self._panel = _kernels.PANEL
        self.kernel = _kernels.Mlp(engine=engine, **shape._asdict())
        size = self.kernel.size
        self.parameters = aligned_zeros(size, 0)
        self.first_moment = aligned_zeros(size, 1) if learns else None
        self.second_moment = aligned_zeros(size, 2) if learns else None
        self.target = aligned_zeros(size, 3) if target else None
        self.kernel.use(
            parameters=self.parameters,
            first_moment=self.first_moment,
            second_moment=self.second_moment,
            target=self.target,
        )

    def forward(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute the outputs [n, outputs] of inputs [n, inputs].

        The bits of a row do not depend on the other rows.
        """
        return self.kernel.forward(x)

    def write(self, array: NDArray[np.float32], layers: list[tuple[Array, Array]]) -> None:
        """Write PyTorch's weights and biases into one of the arrays.

        Args:
            array: one of this object's arrays.
            layers: weight [outputs, inputs] and bias [outputs] of each layer.

        Raises:
            ValueError: if they do not fit this network.
        """
        array[:] = 0
        for place, (weight, bias) in zip(self.kernel.layout, layers, strict=True):
            n_inputs, n_outputs, weights_at, biases_at = place
            if weight.shape != (n_outputs, n_inputs) or bias.shape != (n_outputs,):
                raise ValueError(
                    f"a layer of {weight.shape} and {bias.shape} does not fit one of "
                    f"{n_inputs} inputs and {n_outputs} outputs"
                )
            array[biases_at : biases_at + n_outputs] = bias
            if self._is_single(place):
                array[weights_at : weights_at + n_inputs] = weight[0]
            else:
                self._panels(array, place)[:] = self._padded(weight)
        if array is self.parameters or array is self.target:
            self.kernel.refresh()

    def read(
        self, array: NDArray[np.float32]
    ) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Read copies of weight and bias of each layer: the inverse of `write`."""
        layers = []
        for place in self.kernel.layout:
            n_inputs, n_outputs, weights_at, biases_at = place
            if self._is_single(place):
                weight = array[weights_at : weights_at + n_inputs].reshape(1, n_inputs).copy()
            else:
                columns = self._panels(array, place).transpose(0, 2, 1).reshape(-1, n_inputs)
                weight = np.ascontiguousarray(columns[:n_outputs])
            layers.append((weight, array[biases_at : biases_at + n_outputs].copy()))
        return layers

    def _is_single(self, place: tuple[int, int, int, int]) -> bool:
        """Whether this is a single last output, whose weights are a vector instead of panels."""
        return place[1] == 1 and place == self.kernel.layout[-1]

    def _panels(
        self, array: NDArray[np.float32], place: tuple[int, int, int, int]
    ) -> NDArray[np.float32]:
        """A view of a layer's weights as [panel, input, column in the panel]."""
        n_inputs, _, weights_at, biases_at = place
        return array[weights_at:biases_at].reshape(-1, n_inputs, self._panel)

    def _padded(self, weight: Array) -> Array:
        n_outputs, n_inputs = weight.shape
        padded = np.zeros((-(-n_outputs // self._panel) * self._panel, n_inputs), np.float32)
        padded[:n_outputs] = weight
        return padded.reshape(-1, self._panel, n_inputs).transpose(0, 2, 1)


def aligned_zeros(n: int, shift: int) -> NDArray[np.float32]:
    """Allocate n zeros, aligned to a cache line.

    Args:
        n: number of float32 values.
        shift: moves the start by a number of cache lines. Arrays that are read together need
            different shifts: streams at equal addresses modulo 4096 bytes slow each other down.
    """
    line = 64
    raw = np.zeros(4 * n + line + 17 * line * shift, np.uint8)
    start = -raw.ctypes.data % line + 17 * line * shift
    return raw[start : start + 4 * n].view(np.float32)
