"""A detector file in ONNX Runtime, on the devices that bundles of target onnx have."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...crops import Picture, check_image
from ...errors import BadInputError, NotAvailableError, VerificationError
from ..detection import Detections
from ..devices import check_device, check_threads
from ..engine import refusals
from ..loading import BUILTIN, BUILTIN_DIRECTORY
from ..onnx_session import PROVIDERS, RUNTIME, open_session, session_options
from .graph import Graph, read_graph
from .heads import STRIDES, UNDERSTOOD, Arrays, Head, head_of
from .letterbox import PAD, letterbox, suppress, to_picture

SCORE = 0.3
"""From which score on a detection is a person: rtmlib's and mmpose's threshold for both families."""
MOST_IOU = 0.45
"""Overlap above which two detections are one person, where the graph does not say: YOLOX's ONNX demo and rtmlib."""
SMALLEST = 1.0
"""Boxes that are narrower or lower than this many pixels of the picture are nobody."""
FREE_SIZE = (640, 640)
"""(width, height) for networks that take any size, unless another is asked for."""
BUILTIN_FILE = BUILTIN_DIRECTORY / "person-detector.onnx"
"""The detector that comes with the package; what it can do is in the card beside it."""
NAME_KEY = "rtmw_edge.name"
"""Of a file's metadata: what the network is called, where its form is another family's."""
SCORES_KEY = "rtmw_edge.scores"
"""Likewise: what it was measured to find, JSON."""


class OnnxDetector:
    """Finds people with RTMDet or YOLOX; see `heads` for the files that are understood.

    >>> detector = open_detector(Path("yolox_tiny.onnx"))            # doctest: +SKIP
    >>> boxes, scores = detector(image)                              # doctest: +SKIP
    """

    def __init__(self, session: Any, head: Head, size: tuple[int, int], device: str, score: float) -> None:
        self.size, self.device = size, device
        self.metadata: dict[str, str] = dict(session.get_modelmeta().custom_metadata_map)
        name = self.metadata.get(NAME_KEY, f"{head.family.name} ({head.form})")
        self.about = f"{name}, {size[0]}x{size[1]}, {RUNTIME}, {device}"
        self._session, self._head, self._score = session, head, score
        self._lock = threading.Lock()
        self._canvas = np.empty((size[1], size[0], 3), np.uint8)
        self._input = np.empty((1, 3, size[1], size[0]), np.float32)
        self._mean = np.array(head.family.mean, np.float32)[:, None, None]
        self._scale = (1 / np.array(head.family.std, np.float64)).astype(np.float32)[:, None, None]

    def __call__(self, image: Picture) -> Detections:
        """The people in `image` (H,W,3) uint8 BGR, surest first; boxes lie within the picture.

        Raises BadInputError for what is no picture, VerificationError when the network answers in another form than
        when it was opened.
        """
        image = check_image(image)
        with self._lock:  # threads share the buffers
            factors = letterbox(image, self._canvas)
            self._input[0] = self._canvas.transpose(2, 0, 1)
            if self._mean.any():
                self._input -= self._mean
                self._input *= self._scale
            outputs = _run(self._session, self._input)
        try:
            boxes, scores = self._head.read(outputs)
        except (ValueError, IndexError, KeyError) as error:
            raise VerificationError(
                f"The detector's answer has changed its form ({error}); use another file."
            ) from error
        with np.errstate(invalid="ignore"):
            likely = (scores >= self._score) & np.isfinite(boxes).all(axis=1)
        boxes, scores = to_picture(boxes[likely], factors, image.shape), scores[likely]
        sized = (boxes[:, 2:] - boxes[:, :2] >= SMALLEST).all(axis=1)
        boxes, scores = boxes[sized], scores[sized].astype(np.float32)
        order = np.argsort(-scores, kind="stable") if self._head.done else suppress(boxes, scores, MOST_IOU)
        return Detections(boxes[order], np.minimum(scores[order], 1.0))


def open_detector(
    file: str | Path = BUILTIN,
    device: str = "cpu",
    threads: int | None = None,
    *,
    score: float = SCORE,
    size: tuple[int, int] | None = None,
) -> OnnxDetector:
    """Open the ONNX file of a detector, run it once, and tell from its graph and its answer what it is.

    "builtin" is the one in the package: small, and trained on rendered people alone.

    `score` in 0..1 is the threshold; `size` (width, height) is for networks that take any, and 640x640 when left out.

    Raises BadInputError for a file that is not understood, NotAvailableError when ONNX Runtime or the device is
    missing: there is never another in its place.
    """
    check_device(device)
    check_threads(threads)
    if not 0 < score < 1:
        raise BadInputError(f"The detector's score {score:g} is not between 0 and 1: pass 0.3, say.")
    file = BUILTIN_FILE if str(file) == BUILTIN else Path(file)
    if not file.is_file():
        raise BadInputError(
            f"There is no detector '{file}': pass an ONNX file of RTMDet or YOLOX (what 'rtmw-edge fetch yolox-tiny' "
            "says that it wrote), or 'builtin'."
        )
    session, model = _session(file, device, threads)
    taken = session.get_inputs()
    size = _size(taken[0].shape, size) if len(taken) == 1 and taken[0].type == "tensor(float)" else None
    with _refusals(file, device):
        graph = read_graph(model)
    if size is None:
        raise _not_understood(file, taken, {}, graph)
    grey = np.full((1, 3, size[1], size[0]), PAD, np.float32)
    with _refusals(file, device):
        outputs = _run(session, grey)
    head = head_of(graph, outputs, size)
    if head is None:
        raise _not_understood(file, taken, outputs, graph)
    return OnnxDetector(session, head, size, device, score)


def _session(file: Path, device: str, threads: int | None) -> tuple[Any, bytes]:
    """The session, and the bytes it was made of."""
    if device not in PROVIDERS:
        raise NotAvailableError(
            f"Detectors run in {RUNTIME}, which has no device '{device}' (it has {', '.join(PROVIDERS)}): "
            "pass --detector-device cpu."
        )
    with _refusals(file, device):
        # From bytes: a file could point at external data elsewhere on the disk.
        model = file.read_bytes()
        # A detector waits most of the time, beside a pose model that wants the cores.
        options = session_options(threads, spin=False)
        return open_session(model, options, device), model


def _size(shape: list[int | str | None], wanted: tuple[int, int] | None) -> tuple[int, int] | None:
    """(width, height) to run an input of `shape` at; None when it is no picture (1,3,H,W) of whole cells."""
    if len(shape) != 4 or shape[1] != 3 or (isinstance(shape[0], int) and shape[0] != 1):
        return None
    # Sides that the graph leaves free are names or None.
    width, height = (
        side if isinstance(side, int) else free for side, free in zip(shape[:1:-1], wanted or FREE_SIZE, strict=True)
    )
    return (width, height) if min(width, height) > 0 and width % STRIDES[-1] == height % STRIDES[-1] == 0 else None


def _run(session: Any, pixels: NDArray[np.float32]) -> Arrays:
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {session.get_inputs()[0].name: pixels}), strict=True))


def _not_understood(file: Path, taken: list[Any], outputs: Arrays, graph: Graph) -> BadInputError:
    inputs = ", ".join(f"{one.name} {_shape(one.shape)} {one.type.removeprefix('tensor').strip('()')}" for one in taken)
    given = ", ".join(f"{name} {_shape(array.shape)}" for name, array in outputs.items())
    gives = f", gives {given}" if given else ""
    first = f"begins with a convolution {_shape(graph.kernels[0])}" if graph.kernels else "has no plain convolution"
    return BadInputError(
        f"{file} is no detector that is understood: it takes {inputs}{gives} and {first}; understood are {UNDERSTOOD}."
    )


def _shape(shape: Any) -> str:
    return "(" + ",".join(str(side) for side in shape) + ")"


def _refusals(file: Path, device: str) -> AbstractContextManager[None]:
    elsewhere = "pass --detector-device cpu, or another file"
    advice = "pass an ONNX file of RTMDet or YOLOX" if device == "cpu" else elsewhere
    return refusals(RUNTIME, f"the detector {file}", device, advice)
