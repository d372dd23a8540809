"""Safe reading of untrusted files: regular files only, and only up to a given size.

An untrusted folder can hold a pipe or a device in place of a file, and opening it would block for
ever. It can also hold a file that is, or unpacks to be, larger than memory. All code that reads the
files of a run or a search, or a policy file, opens them here.
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

# Far more than a run writes: a thousand milestones, ten million episodes.
MAX_JSON_BYTES = 1 << 25
MAX_TABLE_BYTES = 1 << 28  # of a CSV file
MAX_ARRAY_BYTES = 1 << 28  # of an .npz file, and of all its arrays together
SECONDS_OF_A_PIPE = 60.0  # within which a pipe named by the user must reach its end

_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


def kind_of(mode: int) -> str:
    """Say what a file is, given its mode from `stat`; "" for a regular file.

    >>> kind_of(stat.S_IFIFO | 0o600)
    'a pipe'
    """
    return "" if stat.S_ISREG(mode) else _KINDS.get(stat.S_IFMT(mode), "something else")


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading; never blocks.

    Raises:
        OSError: if it does not exist, or is a pipe, a socket, a device or a folder.
    """
    return _open(path, None)


def open_named(path: Path, limit: int) -> BinaryIO:
    """Open a file named by the user, which may also be a pipe: `<(…)`, /dev/stdin.

    Args:
        path: the file.
        limit: read at most this many bytes of a pipe, plus one that shows there is more.

    Raises:
        OSError: as for `open_regular`, or if a pipe has no end within SECONDS_OF_A_PIPE.
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
            raise OSError(errno.EINVAL, f"{kind}, not a regular file", str(path))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _all_of_a_pipe(descriptor: int, n_bytes: int, path: Path) -> bytes:
    """Read at most `n_bytes`; waits for the writer, but not for ever."""
    content, until = b"", time.monotonic() + SECONDS_OF_A_PIPE
    while len(content) < n_bytes:
        left = until - time.monotonic()
        if left <= 0 or not select.select([descriptor], [], [], left)[0]:
            reason = f"a pipe that was still open after {SECONDS_OF_A_PIPE:g} s"
            raise OSError(errno.ETIMEDOUT, reason, str(path))
        try:
            part = os.read(descriptor, n_bytes - len(content))
        except BlockingIOError:  # another process read it first
            continue
        if not part:
            break
        content += part
    return content


def read_bytes(path: Path, limit: int) -> bytes:
    """Read a whole regular file.

    Raises:
        OSError: as for `open_regular`.
        ValueError: if it is larger than `limit` bytes.
    """
    with open_regular(path) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"larger than {limit:,} bytes")
    return content


def read_text(path: Path, limit: int) -> str:
    """Read a whole regular text file; line endings are kept as they are.

    Raises:
        OSError: as for `open_regular`.
        ValueError: if it is larger than `limit` bytes, or not UTF-8.
    """
    return read_bytes(path, limit).decode("utf-8")


def read_json(path: Path, limit: int = MAX_JSON_BYTES) -> dict[str, Any]:
    """Read a JSON file that contains an object.

    Raises:
        OSError: as for `open_regular`.
        ValueError: if it is larger than `limit` bytes, or not a JSON object.
    """
    try:
        data = json.loads(read_text(path, limit))
    except RecursionError:
        raise ValueError(f"{path.name} is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{path.name} is not valid JSON: {error}") from None
    if not isinstance(data, dict):
        raise ValueError(f"{path.name} must contain a JSON object")
    return data


def read_npz(
    path: Path, names: Collection[str] = (), limit: int = MAX_ARRAY_BYTES
) -> dict[str, NDArray[Any]]:
    """Read the arrays of an .npz file by name; nothing is unpickled.

    Args:
        path: the file.
        names: required arrays.
        limit: in bytes, for the file and for all its arrays together.

    Raises:
        OSError: as for `open_regular`.
        ValueError: if it is not an .npz file, is damaged, lacks an array, or exceeds `limit`.
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
    except Exception as error:  # damaged input makes zipfile, zlib and NumPy raise many kinds
        reason = str(error) or type(error).__name__
        raise ValueError(f"{path.name} is not an .npz file, or is damaged: {reason}") from None
    missing = [name for name in names if name not in arrays]
    if missing:
        raise ValueError(f"{path.name} has no array {missing[0]!r}")
    return arrays


def _array(content: bytes) -> NDArray[Any]:
    """Decode the bytes of a .npy file, whose header may claim any size."""
    from numpy.lib import format as npy

    stream = io.BytesIO(content)
    version = npy.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"it has an array in format {version}, expected (1, 0) or (2, 0)")
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read(stream)
    if math.prod(shape) * dtype.itemsize != len(content) - stream.tell():
        raise ValueError(f"it has an incomplete array of shape {list(shape)}")
    stream.seek(0)
    array: NDArray[Any] = npy.read_array(stream, allow_pickle=False)
    return array
