"""Eight convolutions, one of every kind that the targets treat in its own way, small enough to compare closely.

48x64 crops; stride 2 in the stem, 3x3, 5x5 depthwise, 1x1, channel attention, a 7x7 with ReLU, and a float tail.
Activations: SiLU, ReLU, ReLU6 and none. Built of the same `ActConv` as the real networks.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from rtmw_edge.quantization import COMMON, Entry, Table
from rtmw_edge.quantization.fake import weights_sha256
from rtmw_edge.targets.rewrites import ActConv, Deployable, FromUint8
from torch import Tensor, nn

from rtmw_edge.models.variants import Variant

WIDTH, HEIGHT = 48, 64

torch.set_num_threads(1)  # several suites share a machine, and waiting threads are slower than none


class SmallDeployable(nn.Module):
    """Normalized BGR (N,3,64,48) -> logits (N,5,96), (N,5,128)[, (N,5,96)]."""

    def __init__(self, axes: tuple[str, ...] = ("x", "y")) -> None:
        super().__init__()
        self.variant = Variant("small", (WIDTH, HEIGHT), 1.0, 1.0, 0, 0.0, axes)
        self.stem = ActConv("stem", nn.Conv2d(3, 12, 3, 2, 1), "silu")
        self.middle = ActConv("middle", nn.Conv2d(12, 16, 3, 1, 1), "silu")
        self.depthwise = ActConv("depthwise", nn.Conv2d(16, 16, 5, 1, 2, groups=16), "silu")
        self.pointwise = ActConv("pointwise", nn.Conv2d(16, 24, 1), "relu")
        self.down = ActConv("down", nn.Conv2d(24, 24, 3, 2, 1), "none")
        self.attention = ActConv("attention", nn.Conv2d(24, 24, 1), "relu6")
        self.branch = ActConv("branch", nn.Conv2d(24, 8, 1), "silu")
        self.head = ActConv("head", nn.Conv2d(32, 5, 7, 1, 3), "relu")
        self.tails = nn.ModuleList(nn.Linear(192, bins, bias=False) for bins in self.variant.bins.values())

    def convolutions(self) -> dict[str, ActConv]:
        return {module.name: module for module in self.modules() if isinstance(module, ActConv)}

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        x = self.pointwise(self.depthwise(self.middle(self.stem(images))))
        x = self.down(x)
        x = x * (self.attention(x.mean((2, 3), keepdim=True)) * (1.0 / 6.0))
        x = torch.cat((x, self.branch(x)), dim=1)
        x = self.head(F.max_pool2d(x, 5, 1, 2)).flatten(2)
        return tuple(tail(x) for tail in self.tails)


def small_deployable(axes: tuple[str, ...] = ("x", "y"), seed: int = 0) -> SmallDeployable:
    """The network with weights that keep activations alive."""
    torch.manual_seed(seed)
    network = SmallDeployable(axes).eval()
    with torch.no_grad():
        for module in network.convolutions().values():
            module.conv.weight.mul_(2.0)
            module.conv.bias.normal_(0, 0.2)
        network.attention.conv.bias.add_(3.0)
    return network


def smooth_crops(count: int, size: tuple[int, int] = (WIDTH, HEIGHT), seed: int = 0) -> np.ndarray:
    """Coloured clouds, uint8 BGR (count, height, width, 3), which use the whole range as photographs do."""
    width, height = size
    noise = torch.from_numpy(np.random.default_rng(seed).uniform(-40, 295, (count, 3, height // 12, width // 12)))
    clouds = F.interpolate(noise, (height, width), mode="bicubic").clamp(0, 255)
    return np.ascontiguousarray(clouds.permute(0, 2, 3, 1).numpy().astype(np.uint8))


def float_logits(network: SmallDeployable | Deployable, crops: np.ndarray) -> list[np.ndarray]:
    """What the network answers to uint8 crops, one array an axis."""
    with torch.no_grad():
        return [logits.numpy() for logits in FromUint8(network).eval()(torch.from_numpy(crops))]


def absmax_table(network: SmallDeployable | Deployable, crops: np.ndarray) -> Table:
    """Scales from the largest magnitudes on `crops`: plain, and independent of the calibration package."""
    largest: dict[str, float] = {}

    def watch(point: str) -> Callable[..., None]:
        def hook(_: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
            value = inputs[0] if point.endswith("input") else output
            largest[point] = max(largest.get(point, 0.0), float(value.abs().max()))

        return hook

    handles = []
    for name, module in network.convolutions().items():
        handles.append(module.conv.register_forward_hook(watch(f"{name}:input")))
        handles.append(module.quant_out.register_forward_hook(watch(f"{name}:output")))
    float_logits(network, crops)
    for handle in handles:
        handle.remove()
    entries = {point: Entry(COMMON.scale_of_range(value)) for point, value in largest.items()}
    for name, module in network.convolutions().items():
        if module.activation == "relu6":
            entries[f"{name}:output"] = Entry(COMMON.scale_of_range(6.0))
        weight, bias = module.conv.weight.detach().numpy(), module.conv.bias.detach().numpy()
        scale = COMMON.weight_scale(weight, bias, float(entries[f"{name}:input"].scale[0]))
        entries[f"{name}:weight"] = Entry(scale, axis=0)
    return Table(network.variant.name, entries, weights_sha256=weights_sha256(network))


def relative_rms(value: np.ndarray, reference: np.ndarray) -> float:
    """Root of the mean squared difference, over that of the reference."""
    return float(np.sqrt(np.square(value - reference).mean() / np.square(reference).mean()))
