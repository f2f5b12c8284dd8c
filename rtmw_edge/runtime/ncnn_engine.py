"""ncnn: CPU, with every reduced-precision shortcut off."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..bundle import Bundle
from ..errors import importing
from .engine import IN_INT8, BundleEngine, Description, Ran, refusals_of
from .processor import cores, has_vnni

REDUCED = ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_packed", "use_bf16_storage")
"""On by default in part, and costly: half-precision arithmetic on ARMv8.2 moves half of the keypoints."""

CONVOLUTIONS = ("Convolution", "ConvolutionDepthWise")
INT8_SCALE_TERM = "8"
"""The layer parameter that is non-zero when the weights are int8 and carry scales."""
WEIGHTS = "6"
"""The layer parameter that counts the weights."""


class NcnnEngine(BundleEngine):
    """One .param and .bin in ncnn, whose graphs take one crop at a time."""

    runtime = "ncnn"
    devices = ("cpu",)
    shared = True

    def load(self, bundle: Bundle) -> None:
        with importing("This", "rtmw-edge[ncnn]"):
            import ncnn
        self._ncnn = ncnn
        self._param = bundle.path("param").read_text()
        self._net = self._ncnn.Net()
        options = self._net.opt
        for name in REDUCED:
            if hasattr(options, name):  # bf16 packing is newer than the oldest ncnn that we take
                setattr(options, name, False)
        options.use_vulkan_compute = False
        options.use_packing_layout = True
        options.use_int8_inference = True
        if self.model.precision in IN_INT8 and has_vnni():
            # The same integers, but multiplied as 16 bits: rtmw-m takes 1.2 times as long. On ARM ncnn decides itself.
            options.use_winograd_convolution = False
        # Its own choice is all cores of the machine, whichever this process may use.
        options.num_threads = self._threads or min(options.num_threads, cores())
        with refusals_of(self.runtime, bundle, self.device):
            if self._net.load_param(str(bundle.path("param"))) or self._net.load_model(str(bundle.path("bin"))):
                raise ValueError("a layer that it does not know, or too few weights")
            self.check_names((*self._net.input_names(), *self._net.output_names()))

    def run(self, crops: NDArray[np.uint8]) -> Sequence[NDArray[np.float32]]:
        height, width = crops.shape[1:3]
        pixels = self._ncnn.Mat.from_pixels(crops[0], self._ncnn.Mat.PixelType.PIXEL_BGR, width, height)
        extractor = self._net.create_extractor()
        extractor.input(self._input, pixels)
        return [np.array(extractor.extract(output)[1], np.float32) for output in self._outputs]

    def describe(self) -> Description:
        """From the layers of the .param: ncnn runs those with int8 weights in int8, the others in float32.

        One run with every convolution's output kept says at how many positions each works.
        """
        width, height = self.model.input_size
        extractor = self._net.create_extractor()
        extractor.set_light_mode(False)
        extractor.input(self._input, self._ncnn.Mat(width, height, 3))
        ran = []
        for line in self._param.splitlines()[2:]:
            words = line.split()
            if words and words[0] in CONVOLUTIONS:
                parameters = dict(word.partition("=")[::2] for word in words if "=" in word)
                output = extractor.extract(words[4 + int(words[2])])[1]
                integer = parameters.get(INT8_SCALE_TERM, "0") != "0"
                macs = output.w * output.h * int(parameters[WEIGHTS])
                ran.append(Ran(f"{words[0]} {'int8' if integer else 'float32'}", integer, macs))
        return Description.of(self.runtime, self._ncnn.__version__, "cpu", self._net.opt.num_threads, ran)

    def close(self) -> None:
        super().close()
        self._net = None  # and not clear(): a run that is under way holds it
