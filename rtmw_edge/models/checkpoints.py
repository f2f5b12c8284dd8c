"""Read official and own checkpoints without running their code; write weights as safetensors.

A `.pth` is a pickle: it is read with `weights_only=True`, which builds tensors, numbers and strings only (and the numpy
arrays that MMPose keeps in `meta`). Formats are told by their first bytes, not by their suffix.
"""

from __future__ import annotations

import contextlib
import json
import pickle
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from ..errors import BadInputError
from ..files import atomic_write

State = dict[str, Tensor]

WRAPPERS = ("ema", "state_dict", "ema_state_dict", "model")
"""Where a checkpoint keeps its weights, best first: MMEngine swaps as it saves, so its `state_dict` is the average."""
SHOWN = 10
COUNTER = "num_batches_tracked"
"""Batch norms count their batches; nothing reads the counts, and files are 10 kB smaller without."""
_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"


def load_weights(network: nn.Module, path: Path) -> None:
    """Load the weights at `path` into `network` in float32; names and shapes must be exactly the network's.

    Counts of batches may be missing. Raises BadInputError when there is no readable checkpoint, or with what is
    missing, unexpected and misshaped.
    """
    own = network.state_dict()
    state = {name: value for name, value in own.items() if name.endswith(COUNTER)} | read_state(path)
    complaints = [
        _list("missing", sorted(own.keys() - state.keys())),
        _list("unexpected", sorted(state.keys() - own.keys())),
        _list("misshaped", _misshaped(own, state)),
    ]
    complaints = [complaint for complaint in complaints if complaint]
    if complaints:
        raise BadInputError(
            f"{path} does not fit {_name(network)}: {'; '.join(complaints)}. "
            f"{_belongs_to(path)}Choose a checkpoint of {_name(network)}."
        )
    network.load_state_dict(state, strict=True)


def read_state(path: Path) -> State:
    """The weights in a `.pth` or `.safetensors` file: official names, floating point as float32.

    Understands `state_dict`, `ema`, `ema_state_dict` and `model`, the prefixes `module.`, `student.` and `teacher.`,
    and bare dictionaries of tensors. Raises BadInputError when the file is none of these.
    """
    path = Path(path)
    if not path.is_file():
        what = "it is a directory" if path.is_dir() else "there is no such file"
        raise BadInputError(f"Cannot read weights from {path}: {what}. Pass a .pth or .safetensors file.")
    try:
        with path.open("rb") as file:
            head = file.read(9)
    except OSError as error:
        raise BadInputError(f"Cannot read weights from {path}: {error.strerror}. Check its permissions.") from error
    if head.startswith(_ZIP) or head.startswith(_PICKLE):
        state = unwrap(_read_pickle(path), path)
    elif len(head) == 9 and head[8:] == b"{":
        state = _read_safetensors(path)
    else:
        raise BadInputError(f"{path} is neither a PyTorch checkpoint nor a safetensors file. Pass one of these.")
    state = {name: value.float() if value.is_floating_point() else value for name, value in state.items()}
    bad = sorted(name for name, value in state.items() if not torch.isfinite(value).all())
    if bad:
        raise BadInputError(f"{path} has NaN or infinity in {', '.join(bad[:SHOWN])}. Choose an earlier checkpoint.")
    return state


def read_metadata(path: Path) -> dict[str, str]:
    """What `save_safetensors` wrote beside the weights; empty for a `.pth`."""
    try:
        with safe_open(str(path), framework="pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError):
        return {}


def save_safetensors(
    weights: nn.Module | Mapping[str, Tensor],
    path: Path,
    dtype: torch.dtype = torch.float16,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write weights whole or not at all; convolutions and linear layers as `dtype`, vectors as float32.

    Vectors (norms, biases, gains) are 0.4 % of the values, and a running variance can leave float16. `metadata`
    gets the name of the network's variant by itself. Raises BadInputError when a value does not fit `dtype`.
    """
    state = weights.state_dict() if isinstance(weights, nn.Module) else dict(weights)
    stored = as_stored({name: value for name, value in state.items() if not name.endswith(COUNTER)}, dtype)
    notes = {"format": "pt"}
    if isinstance(weights, nn.Module) and hasattr(weights, "variant"):
        notes["variant"] = _name(weights)
    notes.update({key: str(value) for key, value in (metadata or {}).items()})
    with atomic_write(Path(path)) as temporary:
        temporary.write_bytes(_ordered(save(stored, metadata=notes)))


def _ordered(file: bytes) -> bytes:
    """The bytes of a safetensors file with the metadata in order, which its writer leaves to chance."""
    size = int.from_bytes(file[:8], "little")
    head = json.loads(file[8 : 8 + size])
    head["__metadata__"] = dict(sorted(head["__metadata__"].items()))
    text = json.dumps(head, separators=(",", ":"), ensure_ascii=False).encode()
    return file[:8] + text.ljust(size) + file[8 + size :]


def as_stored(state: Mapping[str, Tensor], dtype: torch.dtype = torch.float16) -> State:
    """The tensors that `save_safetensors` writes: what another process will read back, to the last bit."""
    return {name: _stored(name, value.detach().cpu(), dtype) for name, value in state.items()}


def unwrap(content: object, path: Path) -> State:
    """The state dict with official names inside what a training run saved; `path` is for the error.

    A distilled run has `student.` and `teacher.` keys: the student is taken; where the student is a head only (DWPose's
    second stage) the trunk is the teacher's.
    """
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    if not isinstance(content, Mapping) or not any(isinstance(value, Tensor) for value in content.values()):
        raise BadInputError(
            f"{path} holds no weights: found no dictionary of tensors. Pass a checkpoint of the network."
        )
    state = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    while any(name.startswith("module.") for name in state):
        # MMEngine's averaged model keeps its step count beside `module.`; it is no weight.
        state = {name.removeprefix("module."): value for name, value in state.items() if name != "steps"}
    student, teacher = _below(state, "student."), _below(state, "teacher.")
    if student and not any(name.startswith("backbone.") for name in student):
        trunk = {name: value for name, value in teacher.items() if not name.startswith("head.")}
        return {**trunk, **student}
    return student or teacher or state


def _below(state: State, prefix: str) -> State:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def _read_safetensors(path: Path) -> State:
    try:
        with safe_open(str(path), framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError) as error:
        raise BadInputError(f"{path} is a damaged safetensors file ({error}). Copy or download it again.") from error


def _read_pickle(path: Path) -> object:
    try:
        with _numpy_allowed():
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "GLOBAL" not in str(error):
            raise BadInputError(f"{path} is damaged and cannot be read. Copy or download it again.") from error
        found = str(error).split("GLOBAL ", 1)[1].split(" ", 1)[0].strip("`'\".,")
        raise BadInputError(
            f"{path} holds Python objects ({found}) beside its weights and is not opened: they could run any code. "
            "Where you trust it, save its state dict alone: torch.save({'state_dict': checkpoint['state_dict']}, FILE)."
        ) from error
    except Exception as error:  # a damaged zip or pickle raises nearly anything
        raise BadInputError(f"{path} is damaged and cannot be read. Copy or download it again.") from error


@contextlib.contextmanager
def _numpy_allowed() -> Iterator[None]:
    """Let `weights_only` build plain numpy arrays and scalars, under the names that numpy 1 and numpy 2 give them."""
    reconstruct: Any = np.array(0).__reduce__()[0]
    scalar: Any = np.float64(0).__reduce__()[0]
    allowed: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [np.ndarray, np.dtype]
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        allowed += [(reconstruct, f"{module}._reconstruct"), (scalar, f"{module}.scalar")]
    allowed += [type(np.dtype(code)) for code in "?bBhHiIlLqQefdSU"]
    with torch.serialization.safe_globals(allowed):
        yield


def _stored(name: str, value: Tensor, dtype: torch.dtype) -> Tensor:
    if not value.is_floating_point():
        return value.contiguous()
    result = value.to(dtype if value.ndim > 1 else torch.float32).contiguous()
    if not torch.isfinite(result).all():
        peak = float(value.abs().max())
        raise BadInputError(f"Cannot store {name} as {dtype}: it reaches {peak:g}. Store the weights as float32.")
    return result


def _misshaped(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> list[str]:
    return [
        f"{name} {tuple(state[name].shape)} instead of {tuple(own[name].shape)}"
        for name in sorted(own.keys() & state.keys())
        if state[name].shape != own[name].shape
    ]


def _list(what: str, names: list[str]) -> str:
    if not names:
        return ""
    shown = ", ".join(names[:SHOWN])
    return f"{len(names)} {what} ({shown}{', ...' if len(names) > SHOWN else ''})"


def _name(network: nn.Module) -> str:
    return str(getattr(getattr(network, "variant", None), "name", type(network).__name__))


def _belongs_to(path: Path) -> str:
    variant = read_metadata(path).get("variant")
    return f"The file says that it is {variant}. " if variant else ""
