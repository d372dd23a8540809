"""The MuJoCo library that its Python package has loaded, for the kernels: where things are in it.

Importing this module imports MuJoCo.
"""

from __future__ import annotations

import ctypes
import functools
import os
from pathlib import Path
from typing import Any

import mujoco


@functools.cache
def library() -> ctypes.CDLL | None:
    """Find it; None if it cannot be found."""
    if not hasattr(os, "RTLD_NOLOAD"):
        return None
    for path in Path(mujoco.__file__).parent.glob("libmujoco*"):
        try:
            return ctypes.CDLL(str(path), mode=os.RTLD_NOLOAD | os.RTLD_NOW)
        except OSError:
            continue
    return None


def function(name: str) -> int:
    """Address of one of its functions.

    Raises:
        LookupError: if the library cannot be found, or has no function of that name.
    """
    try:
        address = ctypes.cast(getattr(library(), name), ctypes.c_void_p).value
    except AttributeError as error:
        raise LookupError(f"MuJoCo has no function {name}") from error
    assert address is not None
    return address


def variable(name: str) -> int:
    """Address of one of its variables that hold a pointer.

    Raises:
        LookupError: if the library cannot be found, or has no variable of that name.
    """
    found = library()
    try:
        if found is None:
            raise ValueError("no library")
        return ctypes.addressof(ctypes.c_void_p.in_dll(found, name))
    except ValueError as error:
        raise LookupError(f"MuJoCo has no variable {name}") from error


@functools.cache
def struct(name: str) -> type[ctypes.Structure]:
    """One of MuJoCo's structs, as its package describes it (`mujoco.introspect`).

    Raises:
        LookupError: if this version describes it not at all, or in a way that is not understood.
    """
    try:
        from mujoco.introspect import structs
    except ImportError as error:
        raise LookupError(f"this version of MuJoCo does not describe {name}") from error
    fields = [(field.name, _ctype(field.type)) for field in structs.STRUCTS[name].fields]
    return type(name, (ctypes.Structure,), {"_fields_": fields})


NUMBERS = {
    "mjtNum": ctypes.c_double,
    "int": ctypes.c_int,
    "mjtSize": ctypes.c_int64,
    "mjtBool": ctypes.c_uint8,
    "mjtByte": ctypes.c_uint8,
    "size_t": ctypes.c_size_t,
    "uintptr_t": ctypes.c_size_t,
    "uint64_t": ctypes.c_uint64,
}


def _ctype(described: Any) -> Any:
    """The type of a field."""
    from mujoco.introspect.ast_nodes import ArrayType, PointerType, ValueType

    if isinstance(described, PointerType):
        return ctypes.c_void_p
    if isinstance(described, ArrayType):
        inner = _ctype(described.inner_type)
        for extent in reversed(described.extents):
            inner = inner * extent
        return inner
    if isinstance(described, ValueType):
        return NUMBERS.get(described.name) or struct(described.name)
    raise LookupError(f"a field of type {described}")
