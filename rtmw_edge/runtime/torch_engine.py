"""PyTorch: CPU and CUDA, in float32. The reference that every other engine is compared with.

The one file here that imports torch. It runs the network as its checkpoint has it, without the rewrites of an export,
and so proves those too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from ..models import MEAN_RGB, STD_RGB, build
from ..models.checkpoints import load_weights
from ..models.macs import multiply_accumulates
from ..models.weights import embedded, find, score_calibration
from .devices import missing_device
from .engine import Description, Engine, Model, Ran

if TYPE_CHECKING:
    from ..models.rtmw import PoseNetwork

MAX_BATCH = 32
"""Crops in one run: enough for full speed, few enough for a small machine's memory."""

INSTALL = "install the NVIDIA driver and a CUDA build of torch (see https://pytorch.org)"


class TorchEngine(Engine):
    """A network of `rtmw_edge.models`, put into evaluation mode on `device`.

    `threads` sets the number of torch's threads, which is one for the whole process. `score` is the (a, b) of the
    calibrated score. Raises NotAvailableError when there is no CUDA device.
    """

    runtime = "PyTorch"
    devices = ("cpu", "cuda")

    def __init__(
        self,
        network: PoseNetwork,
        device: str = "cpu",
        threads: int | None = None,
        score: tuple[float, float] | None = None,
    ) -> None:
        if device not in self.devices or (device == "cuda" and not torch.cuda.is_available()):
            raise missing_device(device, self.runtime, ["cpu"], INSTALL)
        variant = network.variant
        model = Model(
            variant=variant.name,
            target="torch",
            precision="fp32",
            input_size=variant.input_size,
            bins=tuple(variant.bins.values()),
            z_range=variant.z_range,
            score=score,
        )
        super().__init__(model, device, threads, batch=MAX_BATCH, fixed=False)
        if threads is not None:
            torch.set_num_threads(threads)
        self._network = network.to(device).eval()
        self._mean = torch.tensor(MEAN_RGB, device=device).view(1, 3, 1, 1)
        self._std = torch.tensor(STD_RGB, device=device).view(1, 3, 1, 1)

    def run(self, crops: NDArray[np.uint8]) -> Sequence[NDArray[np.float32]]:
        with torch.inference_mode(), _full_float32():
            bgr = torch.from_numpy(crops).to(self.device).permute(0, 3, 1, 2)
            rgb = (bgr.flip(1).float() - self._mean) / self._std
            return [line.float().cpu().numpy() for line in self._network(rgb)]

    def describe(self) -> Description:
        """torch runs every convolution in float32."""
        macs = multiply_accumulates(self._network, self.model.input_size)
        names = [name for name, module in self._network.named_modules() if isinstance(module, torch.nn.Conv2d)]
        ran = [Ran("Conv2d float32", False, macs.get(name, 0)) for name in names]
        threads = torch.get_num_threads() if self.device == "cpu" else None
        return Description.of(self.runtime, torch.__version__, self.device, threads, ran)


@contextmanager
def _full_float32() -> Iterator[None]:
    """Convolutions and products in float32 proper, whatever this process or its environment has asked for.

    TF32, torch's default for convolutions on a GPU and some containers' for products, has 10 bits of mantissa, bfloat16
    on a CPU has 7: no reference.
    """
    asked = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            yield
    finally:
        torch.set_float32_matmul_precision(asked)


def open_torch(variant: str, weights: Path | None, device: str, threads: int | None) -> TorchEngine:
    """The network of `variant` with the weights in the file `weights`; None: the embedded or fetched ones."""
    network = build(variant)
    path = find(variant, weights)
    load_weights(network, path)
    return TorchEngine(network, device, threads, score_calibration(variant) if path == embedded(variant) else None)
