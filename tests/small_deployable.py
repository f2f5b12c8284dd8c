"""Eight convolutions, one of every kind that the targets treat in its own way, small enough to compare closely.

48x64 crops; stride 2 in the stem, 3x3, 5x5 depthwise, 1x1, channel attention, a 7x7 with ReLU, and a float tail.
Activations: SiLU, ReLU, ReLU6 and none. Between convolutions: a sum, a mean, a product, a concatenation, a maximum.
Built of the same `ActConv` and `Place` as the real networks.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from rtmw_edge.quantization import COMMON, SIGMOID, Entry, Grid, Table
from rtmw_edge.quantization.fake import points_of, weight_arrays, weights_sha256
from rtmw_edge.targets.rewrites import ActConv, Deployable, FromUint8, Place
from torch import Tensor, nn

from rtmw_edge.models.layers import Add, Join
from rtmw_edge.models.variants import Variant

WIDTH, HEIGHT = 48, 64


class SmallDeployable(nn.Module):
    """Normalized BGR (N,3,64,48) -> logits (N,5,96), (N,5,128)[, (N,5,96)]."""

    def __init__(self, axes: tuple[str, ...] = ("x", "y")) -> None:
        super().__init__()
        self.variant = Variant("small", (WIDTH, HEIGHT), 1.0, 1.0, 0, 0.0, axes)
        self.add = Place("add:sum", Add())
        self.mean = Place("attention:mean")
        self.product = Place("attention:product")
        self.join = Place("join:concat", Join())
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

    def between(self) -> dict[str, Place]:
        return {module.point: module for module in self.modules() if isinstance(module, Place)}

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        x = self.middle(self.stem(images))
        x = self.down(self.pointwise(self.add(self.depthwise(x), x)))
        mean = self.mean(x.mean((2, 3), keepdim=True))
        x = self.product(x * (self.attention(mean) * (1.0 / 6.0)))
        x = self.join(x, self.branch(x))
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


def absmax_table(
    network: SmallDeployable | Deployable, crops: np.ndarray, grid: Grid = COMMON, *, silu_floor: float = -np.inf
) -> Table:
    """Scales from the extremes on `crops`, before SiLU from no lower than `silu_floor`: plain, and independent of the
    calibration package."""
    seen: dict[str, tuple[float, float]] = {}

    def watch(point: str, *, of_input: bool = False) -> Callable[..., None]:
        def hook(_: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
            value = inputs[0] if of_input else output
            low, high = seen.get(point, (0.0, 0.0))
            seen[point] = min(low, float(value.min())), max(high, float(value.max()))

        return hook

    handles = []
    for name, module in network.convolutions().items():
        handles.append(module.conv.register_forward_hook(watch(f"{name}:input", of_input=True)))
        handles.append(module.quant_out.register_forward_hook(watch(f"{name}:output")))
    for point, place in network.between().items():
        handles.append(place.register_forward_hook(watch(point)))
    float_logits(network, crops)
    for handle in handles:
        handle.remove()
    for name, module in network.convolutions().items():
        if module.activation == "silu":
            low, high = seen[f"{name}:output"]
            seen[f"{name}:output"] = max(low, silu_floor), high
    points = points_of(network, grid)
    entries = {}
    for name, module in network.convolutions().items():
        if module.activation == "relu6":
            seen[f"{name}:output"] = 0.0, 6.0
        if f"{name}:weight" in points:
            scale_in = float(grid.activation(*seen[f"{name}:input"])[0][0]) if grid.calibrated else None
            entries[f"{name}:weight"] = Entry(grid.weight_scale(*weight_arrays(module), scale_in), axis=0)
    for point in points - entries.keys():
        if point.endswith(":sigmoid"):
            entries[point] = SIGMOID
        else:
            scale, zero_point = grid.activation(*seen[point])
            entries[point] = Entry(scale, zero_point, grid.bits, low=grid.low, high=grid.high)
    return Table(network.variant.name, entries, grid.name, weights_sha256=weights_sha256(network))


def relative_rms(value: np.ndarray, reference: np.ndarray) -> float:
    """Root of the mean squared difference, over that of the reference."""
    return float(np.sqrt(np.square(value - reference).mean() / np.square(reference).mean()))
