"""Safe reading of untrusted zips and tensors, with one-line errors.

A zip can lie about sizes, hide gigabytes behind kilobytes, and contain two members of one name. A
.pth member is a zip itself, read by C++. So every archive must pass size limits before any of it is
unpacked, and PyTorch only gets an archive that was rewritten from the members read here.
"""

from __future__ import annotations

import contextlib
import io
import pickletools
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from gallop.errors import ExperimentError
from gallop.reading import open_regular

if TYPE_CHECKING:
    import torch


MAX_MEMBERS = 1_000  # of an archive; SB3's zips have about eight, their .pth members one per tensor
MAX_MEMBER_BYTES = 1 << 27  # of one unpacked member; a large MLP policy takes a few megabytes
MAX_TOTAL_BYTES = 1 << 28  # of all members, of the file, and of all tensors
MAX_JSON_BYTES = 1 << 23  # parsed JSON takes up to thirty times its size
MAX_PICKLE_BYTES = 1 << 18  # of a .pth member's list of tensors, about 100 bytes per tensor
MAX_RATIO = 200  # unpacked to packed size; SB3 does not compress, zips repacked by hand reach 20
RATIO_COUNTS_FROM = 1 << 20  # bytes; the ratio of a smaller member does not matter

# All names that a list of tensors needs. PyTorch's own list has more, such as bytearray(10**10).
_TENSOR_NAMES = re.compile(
    r"collections OrderedDict|torch \w+Storage|torch\.storage \w+Storage"
    r"|torch\._utils _rebuild_(tensor|tensor_v2|parameter)"
    r"|numpy\._?core\.multiarray scalar|numpy dtype|_codecs encode"  # rl_games: one NumPy number
)
_TENSOR_NAME = re.compile(r"[A-Za-z0-9_.]{1,200}")  # in a state dict
_DIRECTORY_ENTRY = re.compile(rb"PK\x01\x02")


class PolicyFileError(ExperimentError):
    """A policy file cannot be used; the message says why."""


class UnsafeFileError(PolicyFileError):
    """A policy file cannot be used without running code that is in it."""


@contextlib.contextmanager
def opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a zip and check its limits; any error while it is read becomes one line.

    Raises:
        PolicyFileError: if the file does not exist, is not a zip, is damaged, or exceeds a limit.
    """
    try:
        with open_regular(path) as file:
            content = file.read(MAX_TOTAL_BYTES + 1)
        if len(content) > MAX_TOTAL_BYTES:
            raise PolicyFileError(f"{path}: larger than a policy can be")
        with _archive(content, str(path)) as archive:
            yield archive
    except PolicyFileError:
        raise
    except FileNotFoundError:
        raise PolicyFileError(f"{path}: no such file") from None
    except OSError as error:
        raise PolicyFileError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (zipfile.BadZipFile, zipfile.LargeZipFile, EOFError) as error:
        raise PolicyFileError(f"{path}: not a zip, or damaged: {_line(error)}") from None
    except Exception as error:  # damaged input makes zipfile and zlib raise many kinds
        raise PolicyFileError(f"{path}: a member cannot be read: {_line(error)}") from None


def _archive(content: bytes, place: str) -> zipfile.ZipFile:
    """Open a zip in memory and check its limits; its entries are counted before Python reads it."""
    n_entries = sum(1 for _ in _DIRECTORY_ENTRY.finditer(content))
    if n_entries > 2 * MAX_MEMBERS:  # weights may contain the pattern by chance
        raise PolicyFileError(
            f"{place}: {n_entries:,} members; at most {MAX_MEMBERS:,} are allowed"
        )
    archive = zipfile.ZipFile(io.BytesIO(content))
    check(archive, place)
    return archive


def check(archive: zipfile.ZipFile, place: str) -> None:
    """Check the limits of an archive from its directory.

    Args:
        archive: the opened zip.
        place: its name in error messages.

    Raises:
        PolicyFileError: naming the member and the limit.
    """
    members = archive.infolist()
    if len(members) > MAX_MEMBERS:
        raise PolicyFileError(
            f"{place}: {len(members):,} members; at most {MAX_MEMBERS:,} are allowed"
        )
    seen: set[str] = set()
    for member in members:
        name = PurePosixPath(member.filename.replace("\\", "/"))
        if name.is_absolute() or ".." in name.parts or ":" in member.filename:
            raise PolicyFileError(f"{place}: its member {member.filename!r} points outside of it")
        if member.filename in seen:
            raise PolicyFileError(f"{place}: two members have the name {member.filename!r}")
        seen.add(member.filename)
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise PolicyFileError(
                f"{place}: its member {member.filename!r} has an unsupported compression method"
            )
        if member.file_size > MAX_MEMBER_BYTES:
            raise _too_large(place, member.filename)
        ratio = member.file_size / max(1, member.compress_size)
        if member.file_size > RATIO_COUNTS_FROM and ratio > MAX_RATIO:
            raise PolicyFileError(
                f"{place}: its member {member.filename!r} unpacks to {ratio:,.0f} times its size; "
                f"at most {MAX_RATIO} times is allowed"
            )
    if sum(member.file_size for member in members) > MAX_TOTAL_BYTES:
        raise PolicyFileError(f"{place}: its members together are larger than a policy can be")


def whole_file(path: Path, limit: int) -> bytes:
    """Read a policy file of any format.

    Raises:
        PolicyFileError: if it cannot be read, or is larger than `limit` bytes.
    """
    try:
        with open_regular(path) as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise PolicyFileError(f"{path}: cannot be read: {error.strerror or error}") from None
    if len(content) > limit:
        raise PolicyFileError(f"{path}: larger than a policy can be")
    return content


def member(archive: zipfile.ZipFile, name: str, place: str, limit: int = MAX_MEMBER_BYTES) -> bytes:
    """Read a member's bytes, and check their checksum.

    Args:
        archive: the opened zip.
        name: of the member.
        place: the archive's name in error messages.
        limit: in bytes.

    Raises:
        PolicyFileError: if there is no such member, or it is larger than `limit`.
    """
    try:
        info = archive.getinfo(name)
    except KeyError:
        raise PolicyFileError(f"{place}: not an SB3 zip (it has no member {name!r})") from None
    if info.file_size > limit:
        raise _too_large(place, name)
    with archive.open(info) as file:
        content = file.read(limit + 1)  # the header's size may be a lie
    if len(content) > limit:
        raise _too_large(place, name)
    return content


def load_tensors(content: bytes, place: str) -> Any:
    """Read a .pth member: tensors and plain containers, nothing else.

    Args:
        content: the bytes of the member.
        place: its name in error messages.

    Raises:
        PolicyFileError: if it is damaged or exceeds a limit.
        UnsafeFileError: if reading it would run code.
    """
    import torch

    if not content.startswith(b"PK"):
        raise UnsafeFileError(
            f"{place} cannot be read safely: not a zip; PyTorch's format before 1.6 is pickle"
        )
    try:
        with _archive(content, place) as archive:
            clean = io.BytesIO()
            with zipfile.ZipFile(clean, "w", zipfile.ZIP_STORED) as written:
                for name in archive.namelist():
                    is_pickle = name.lower().endswith(".pkl")  # PyTorch ignores case
                    limit = MAX_PICKLE_BYTES if is_pickle else MAX_MEMBER_BYTES
                    part = member(archive, name, place, limit)
                    if is_pickle:
                        _check_names(part, place)
                    written.writestr(name, part)
        clean.seek(0)
        with torch.serialization.safe_globals(_numbers()):
            found = torch.load(clean, map_location="cpu", weights_only=True)
    except PolicyFileError:
        raise
    except Exception as error:  # damaged or refused input makes torch raise many kinds
        raise PolicyFileError(f"{place} cannot be read safely: {_line(error)}") from None
    _check_tensors(found, place)
    return found


def _numbers() -> list[Any]:
    """What NumPy's pickles of float32 and float64 scalars name; nothing here runs other code."""
    import _codecs

    import numpy as np

    scalar = np.float32(0).__reduce__()[0]
    names = ("numpy._core.multiarray.scalar", "numpy.core.multiarray.scalar")  # NumPy 2 and 1
    dtypes = [type(np.dtype(kind)) for kind in ("f4", "f8")]
    return [*((scalar, name) for name in names), np.dtype, *dtypes, _codecs.encode]


def _check_names(content: bytes, place: str) -> None:
    """Check that the pickle that lists an archive's tensors names only what tensors need."""
    for opcode, argument, _ in pickletools.genops(content):
        if opcode.name in ("STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4"):
            raise UnsafeFileError(f"{place} cannot be read safely: it uses {opcode.name}")
        if opcode.name == "GLOBAL" and not _TENSOR_NAMES.fullmatch(str(argument)):
            shown = str(argument)[:80]
            raise UnsafeFileError(
                f"{place} cannot be read safely: it names {shown!r}, which tensors do not need"
            )


def _check_tensors(found: Any, place: str) -> None:
    """Check that tensors are plain and no larger than the file.

    With strides of 0 a tensor can claim more elements than it has. A copy would fill the memory.
    """
    import torch

    total = 0
    todo, seen = [found], 0
    while todo:
        value = todo.pop()
        seen += 1
        if seen > 1_000_000:
            raise PolicyFileError(f"{place} contains too many values")
        if isinstance(value, Mapping):
            todo += value.values()
        elif isinstance(value, list | tuple | set):
            todo += value
        elif isinstance(value, torch.Tensor):
            if type(value) not in (torch.Tensor, torch.nn.Parameter) or value.is_sparse:
                kind = type(value).__name__
                raise PolicyFileError(f"{place} contains a {kind}, expected a dense tensor")
            if (
                value.layout is not torch.strided
                or value.is_quantized
                or value.is_nested
                or value.device.type != "cpu"
                or value.dtype not in _dtypes()
            ):
                raise PolicyFileError(f"{place} contains a tensor of an unsupported kind")
            n_bytes = value.numel() * value.element_size()
            total += n_bytes
            if n_bytes > value.untyped_storage().nbytes() or total > MAX_TOTAL_BYTES:
                raise PolicyFileError(f"{place} contains a tensor larger than the file")


def _dtypes() -> set[torch.dtype]:
    """The dtypes that NumPy has, too."""
    import torch

    whole = {torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.bool}
    return whole | {torch.float16, torch.float32, torch.float64}


def all_tensors(found: Any) -> bool:
    """Whether this is a state dict: a mapping from names such as SB3's to tensors."""
    import torch

    return (
        isinstance(found, Mapping)
        and len(found) <= MAX_MEMBERS  # one member per tensor
        and all(
            isinstance(name, str)
            and _TENSOR_NAME.fullmatch(name)
            and isinstance(value, torch.Tensor)
            for name, value in found.items()
        )
    )


def finite(tensors: Mapping[str, torch.Tensor]) -> bool:
    """Whether no tensor contains NaN or infinity."""
    return all(bool(tensor.isfinite().all()) for tensor in tensors.values())


def _too_large(place: str, name: str) -> PolicyFileError:
    return PolicyFileError(f"{place}: its member {name!r} is larger than a policy can be")


def _line(error: Exception) -> str:
    lines = str(error).splitlines()
    return (lines[0] if lines else type(error).__name__)[:200]
