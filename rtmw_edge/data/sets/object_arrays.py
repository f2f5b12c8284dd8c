"""Arrays of Python objects from an .npz, without running anything that its pickle names.

A pickle is a program. This reader gives it dictionaries, lists, numbers, texts and plain numeric arrays to build, and
nothing to call: every name that NumPy's pickles use is a stand-in of ours, every other name is refused.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from ...errors import BadInputError
from ...files import BROKEN_ZIP

NUMERIC = re.compile(r"[biuf][1248]")
TEXT_OR_OBJECT = re.compile(r"O8?|[US]\d+")
NONSENSE = (ValueError, TypeError, LookupError, AttributeError, MemoryError, RecursionError)
"""What a pickle that makes no sense makes its reader raise."""


def load_objects(path: Path, names: tuple[str, ...]) -> list[Any]:
    """The values of `names` in an .npz file: plain Python objects and numeric arrays.

    Raises BadInputError when the file is missing or damaged, lacks a name, or its pickle asks for anything beyond data.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            missing = [name for name in names if f"{name}.npy" not in archive.namelist()]
            if missing:
                raise BadInputError(f"{path} holds no '{missing[0]}': it is not the file that this kind of set needs.")
            values = []
            for name in names:
                with archive.open(f"{name}.npy") as stream:
                    values.append(_array(stream))
            return values
    except FileNotFoundError:
        raise BadInputError(f"There are no annotations at {path}: check `root` and `annotations`.") from None
    except OSError as error:
        raise BadInputError(f"Cannot read the annotations {path}: {error.strerror or error}.") from None
    except pickle.UnpicklingError as error:
        raise BadInputError(f"{path} was not loaded: {error}. Use the file as its authors published it.") from None
    except (*BROKEN_ZIP, *NONSENSE) as error:
        raise BadInputError(f"{path} is damaged ({type(error).__name__}: {error}): download it again.") from None


def _array(stream: IO[bytes]) -> Any:
    version = npy.read_magic(stream)
    read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read_header(stream)
    if dtype.hasobject:
        return _Unpickler(stream).load_plain()
    return np.frombuffer(stream.read(), dtype).reshape(shape, order="F" if fortran else "C")


class _Unpickler(pickle.Unpickler):
    """Resolves the names of NumPy's pickles to stand-ins, made anew for every file: a pickle can alter only its own."""

    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__(stream)
        self._names, self._plain = _stand_ins()

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._names[module.replace("numpy._core", "numpy.core"), name]
        except KeyError:
            raise pickle.UnpicklingError(f"its pickle asks for {module}.{name}, which is more than data") from None

    def load_plain(self) -> Any:
        """The pickled value, with ordinary arrays and objects in place of the stand-ins."""
        return self._plain(self.load())


def _stand_ins() -> tuple[dict[tuple[str, str], Any], Callable[[Any], Any]]:
    class DType:
        """numpy.dtype: only its code and byte order."""

        def __init__(self, code: str, *_: Any) -> None:
            if not isinstance(code, str) or not (NUMERIC.fullmatch(code) or TEXT_OR_OBJECT.fullmatch(code)):
                raise pickle.UnpicklingError(
                    f"its pickle has an array of the type {code!r:.40}, which is more than data"
                )
            self.code, self.order = code, "="

        def __setstate__(self, state: tuple[Any, ...]) -> None:
            self.order = {"<": "<", ">": ">"}.get(state[1], "=")

        def numpy(self) -> np.dtype[Any]:
            if not NUMERIC.fullmatch(self.code):
                raise pickle.UnpicklingError(f"its pickle has numbers of the type {self.code!r}, which holds none")
            return np.dtype(self.order + self.code)

    class Array:
        """numpy.ndarray: bytes of numbers, or a list of objects."""

        value: Any = None

        def __setstate__(self, state: tuple[Any, ...]) -> None:
            _, shape, dtype, fortran, data = state
            if isinstance(data, list):
                self.value = data[0] if shape == () and len(data) == 1 else data
            else:
                flat = np.frombuffer(bytes(data), dtype.numpy())
                self.value = flat.reshape(shape, order="F") if fortran else flat.reshape(shape)

    def reconstruct(*_: Any) -> Array:
        return Array()

    def scalar(dtype: DType, data: bytes) -> Any:
        return np.frombuffer(bytes(data), dtype.numpy())[0].item()

    def encode(text: str, _encoding: str = "latin1") -> bytes:
        return text.encode("latin1")

    done: dict[int, Any] = {}

    def plain(value: Any) -> Any:
        """What is in a pickle twice is taken over once: lists of one another could else grow beyond all memory."""
        if not isinstance(value, (Array, dict, list)):
            return value
        if id(value) not in done:
            if isinstance(value, Array):
                done[id(value)] = plain(value.value)
            elif isinstance(value, dict):
                done[id(value)] = {key: plain(entry) for key, entry in value.items()}
            else:
                done[id(value)] = [plain(entry) for entry in value]
        return done[id(value)]

    names = {
        ("numpy", "dtype"): DType,
        ("numpy", "ndarray"): Array,
        ("numpy.core.multiarray", "_reconstruct"): reconstruct,
        ("numpy.core.multiarray", "scalar"): scalar,
        ("_codecs", "encode"): encode,
    }
    return names, plain
