"""How good a network is on a fixed data set: average precision per part, PCK, and in 3D the error in millimetres."""

from __future__ import annotations

from collections.abc import Callable

from ..evaluation import evaluate, open_dataset
from ..models.rtmw import PoseNetwork
from ..runtime import Runner


class StoppedError(Exception):
    """Whoever waits for the figures of a validation wants them no more."""


class Validation:
    """The data set that `text` names (see `evaluation.open_dataset`), with ground-truth boxes and no flip test.

    It ends with StoppedError after the image in which `is_stopped` turns true. Raises BadInputError when there is no
    such data set, or an image of it is not there: now, not hours later.
    """

    def __init__(self, text: str, is_stopped: Callable[[], bool] = lambda: False) -> None:
        self.dataset, self._is_stopped = open_dataset(text), is_stopped

    def figures(self, network: PoseNetwork, device: str) -> dict[str, float]:
        """Shares in 0..1 named ap_PART and pck_PART, in 3D also mpjpe_PART in millimetres, the hips put together."""
        from ..runtime.torch_engine import TorchEngine

        result = evaluate(Runner(TorchEngine(network, device)), self.dataset, on_progress=self._go_on)
        figures = {f"ap_{part}": scores.ap for part, scores in result.parts.items()}
        figures |= {f"pck_{part}": share for part, share in result.pck.items()}
        return figures | {f"mpjpe_{part}": errors.root for part, errors in result.mpjpe.items()}

    def _go_on(self, done: int, total: int) -> None:
        if self._is_stopped():
            raise StoppedError


def is_better(figures: dict[str, float], best: dict[str, float]) -> bool:
    """By the lower hip-aligned MPJPE in 3D, as RTMW3D's best is chosen, else by the higher AP of the whole body."""
    if not best:
        return True
    if figures.get("mpjpe_whole", -1.0) >= 0:
        return figures["mpjpe_whole"] < best.get("mpjpe_whole", float("inf"))
    return figures["ap_whole"] > best["ap_whole"]
