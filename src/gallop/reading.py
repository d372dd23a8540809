"""Reading files that may be anything: regular ones alone, and only up to a stated size.

A folder that came from somewhere else can hold a pipe or a device where a file belongs, and opening
that would wait for ever; it can hold a file that claims, or unpacks to, more than memory has.
Everything that reads a run's or a search's files, or a policy file, opens them here.
"""

from __future__ import annotations

import errno
import io
import json
import math
import os
import select
import stat
import time
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Far above what a run writes: a thousand milestones, ten million episodes.
MAX_JSON_BYTES = 1 << 25
MAX_TABLE_BYTES = 1 << 28  # of a CSV file
MAX_ARRAY_BYTES = 1 << 28  # of an .npz file, and of all its arrays together
SECONDS_OF_A_PIPE = 60.0  # until all has come through one that a user named

_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


def kind_of(mode: int) -> str:
    """What a file is that is no regular file, from the mode that `stat` gives; "" for one that is.

    >>> kind_of(stat.S_IFIFO | 0o600)
    'a pipe'
    """
    return "" if stat.S_ISREG(mode) else _KINDS.get(stat.S_IFMT(mode), "something else")


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading; opening never waits, whatever lies there.

    Raises:
        OSError: if there is none, or it is a pipe, a socket, a device or a folder.
    """
    return _open(path, None)


def open_named(path: Path, limit: int) -> BinaryIO:
    """Open a file that the user has named, which may also be a pipe: `<(…)`, /dev/stdin.

    Args:
        limit: bytes of a pipe that are read, and one more.

    Raises:
        OSError: as `open_regular` does; and if a pipe is not at its end in SECONDS_OF_A_PIPE.
    """
    return _open(path, limit)


def _open(path: Path, limit_of_a_pipe: int | None) -> BinaryIO:
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
    descriptor = os.open(path, flags | getattr(os, "O_BINARY", 0))
    try:
        mode = os.fstat(descriptor).st_mode
        if limit_of_a_pipe is not None and stat.S_ISFIFO(mode) and os.name != "nt":
            content = _all_of_a_pipe(descriptor, limit_of_a_pipe + 1, path)
            os.close(descriptor)
            return io.BytesIO(content)
        kind = kind_of(mode)
        if kind:
            raise OSError(errno.EINVAL, f"it is {kind}, no regular file", str(path))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _all_of_a_pipe(descriptor: int, n_bytes: int, path: Path) -> bytes:
    """At most so many. Reading waits for whoever writes, but not for ever."""
    content, until = b"", time.monotonic() + SECONDS_OF_A_PIPE
    while len(content) < n_bytes:
        left = until - time.monotonic()
        if left <= 0 or not select.select([descriptor], [], [], left)[0]:
            reason = f"it is a pipe that was not at its end after {SECONDS_OF_A_PIPE:g} s"
            raise OSError(errno.ETIMEDOUT, reason, str(path))
        try:
            part = os.read(descriptor, n_bytes - len(content))
        except BlockingIOError:  # another reader was faster
            continue
        if not part:
            break
        content += part
    return content


def read_bytes(path: Path, limit: int) -> bytes:
    """All of a regular file.

    Raises:
        OSError: as `open_regular` does.
        ValueError: if it is larger than `limit` bytes.
    """
    with open_regular(path) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"it is larger than {limit:,} bytes")
    return content


def read_text(path: Path, limit: int) -> str:
    """All of a regular file of text, its line ends as they are.

    Raises:
        OSError, ValueError: as `read_bytes` does; ValueError too if it is no UTF-8.
    """
    return read_bytes(path, limit).decode("utf-8")


def read_json(path: Path, limit: int = MAX_JSON_BYTES) -> dict[str, Any]:
    """The object that a JSON file holds.

    Raises:
        OSError, ValueError: as `read_text` does; ValueError too if it holds anything else.
    """
    try:
        data = json.loads(read_text(path, limit))
    except RecursionError:
        raise ValueError(f"{path.name} is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{path.name} is no JSON: {error}") from None
    if not isinstance(data, dict):
        raise ValueError(f"{path.name} holds no JSON object")
    return data


def read_npz(
    path: Path, names: Collection[str] = (), limit: int = MAX_ARRAY_BYTES
) -> dict[str, NDArray[Any]]:
    """The arrays of an .npz file by name; nothing in it is unpickled.

    Args:
        names: those that there must be.
        limit: in bytes, of the file and of all its arrays together.

    Raises:
        OSError: as `open_regular` does.
        ValueError: if it is no .npz file, is damaged, lacks a name, or is larger than `limit`.
    """
    import zipfile

    content = read_bytes(path, limit)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            if sum(member.file_size for member in members) > limit:
                raise ValueError(f"its arrays are larger than {limit:,} bytes")
            arrays = {
                member.filename.removesuffix(".npy"): _array(archive.read(member))
                for member in members
            }
    except Exception as error:  # zipfile, zlib and NumPy raise many kinds for damaged input
        reason = str(error) or type(error).__name__
        raise ValueError(f"{path.name} is no .npz file, or a damaged one: {reason}") from None
    missing = [name for name in names if name not in arrays]
    if missing:
        raise ValueError(f"{path.name} holds no array {missing[0]!r}")
    return arrays


def _array(content: bytes) -> NDArray[Any]:
    """An array from the bytes of a .npy file, whose header may claim any size."""
    from numpy.lib import format as npy

    stream = io.BytesIO(content)
    version = npy.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"it has an array of format {version}")
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read(stream)
    if math.prod(shape) * dtype.itemsize != len(content) - stream.tell():
        raise ValueError(f"it has an array of shape {list(shape)} that is not all there")
    stream.seek(0)
    array: NDArray[Any] = npy.read_array(stream, allow_pickle=False)
    return array
