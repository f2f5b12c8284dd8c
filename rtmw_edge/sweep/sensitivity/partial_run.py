"""Run a network whose change lies late without running what lies before it.

A network is cut into blocks: a stage of the backbone, a layer of the neck, a convolution of the head. One run of the
unchanged network keeps the output of every block. With some convolutions taken from another network, such as a
quantized one, the blocks that ran before the first of them give what they gave, and the rest is computed: what ran
before a change cannot depend on it, so this is exact.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rtmw_edge.calibration.observing import normalized

from ...models.backbone import CSPNeXt
from ...models.head import RTMWHead
from ...models.neck import CSPNeXtPAFPN
from ...runtime.engine import Logits

if TYPE_CHECKING:
    from ...targets.rewrites import Deployable

BATCH = 16
"""Crops in one run."""

CONTAINERS = (CSPNeXt, CSPNeXtPAFPN, RTMWHead, nn.ModuleList)
"""What is larger than a block. The network itself is too."""


def blocks_of(network: Deployable) -> dict[str, str]:
    """The path of its block by the name of every convolution, in order of definition.

    >>> blocks_of(deployable(build("rtmw-n-256x192")))["backbone.stem.0.conv"]      # doctest: +SKIP
    'backbone.stem'
    """
    names = {id(convolution): name for name, convolution in network.convolutions().items()}
    return {
        names[id(module)]: path
        for path, block in _blocks(network, "")
        for module in block.modules()
        if id(module) in names
    }


class PartialRuns:
    """The outputs of every block of `network` on `crops` (N,H,W,3) uint8 BGR; `logits` (N,133,bins) are its answers.

    Holds them in float32: 2.3 MB a crop for rtmw-n, 6.9 MB for rtmw-m.
    """

    def __init__(self, network: Deployable, crops: NDArray[np.uint8]) -> None:
        self._network, self._crops = copy.deepcopy(network), crops
        self._blocks = blocks_of(self._network)
        self._kept: dict[str, list[Tensor]] = {}
        hooks = [
            self._network.get_submodule(path).register_forward_hook(self._keep(path))
            for path in dict.fromkeys(self._blocks.values())
        ]
        self.logits = logits_of(self._network, crops)
        for hook in hooks:
            hook.remove()

    def run(self, other: Deployable, convolutions: Iterable[str]) -> Logits:
        """Logits (N,133,bins) per axis with `convolutions`, and their quantizers, taken from `other`."""
        names = list(convolutions)
        with _exchanged(self._network, other, names), self._blocks_before(names):
            return logits_of(self._network, self._crops)

    def _keep(self, path: str) -> Callable[[nn.Module, object, Tensor], None]:
        def hook(_: nn.Module, __: object, output: Tensor) -> None:
            self._kept.setdefault(path, []).append(output)

        return hook

    @contextmanager
    def _blocks_before(self, convolutions: Iterable[str]) -> Iterator[None]:
        """In the place of every block that ran before those of `convolutions`, its outputs."""
        touched = {self._blocks[name] for name in convolutions}
        taken: list[tuple[nn.Module, str, nn.Module]] = []
        for path, outputs in self._kept.items():  # in the order in which they ran
            if path in touched:
                break
            parent, _, name = path.rpartition(".")
            owner = self._network.get_submodule(parent)
            taken.append((owner, name, owner.get_submodule(name)))
            setattr(owner, name, _Given(outputs))
        try:
            yield
        finally:
            for owner, name, block in taken:
                setattr(owner, name, block)


@contextmanager
def _exchanged(network: Deployable, other: Deployable, convolutions: Iterable[str]) -> Iterator[None]:
    """Weights, biases and quantizers of `convolutions` exchanged between the two networks."""
    pairs = [(network.convolutions()[name], other.convolutions()[name]) for name in convolutions]

    def exchange() -> None:
        for mine, theirs in pairs:
            for place in ("conv", "quant_in", "quant_w", "quant_out"):
                ours = getattr(mine, place)
                setattr(mine, place, getattr(theirs, place))
                setattr(theirs, place, ours)

    exchange()
    try:
        yield
    finally:
        exchange()


def logits_of(network: Deployable, crops: NDArray[np.uint8]) -> Logits:
    """Logits (N,133,bins) per axis of `crops` (N,H,W,3) uint8 BGR."""
    with torch.inference_mode():
        batches = (crops[start : start + BATCH] for start in range(0, len(crops), BATCH))
        answers = [network(normalized(batch, network.variant)) for batch in batches]
    return tuple(torch.cat(lines).numpy() for lines in zip(*answers, strict=True))


class _Given(nn.Module):
    """Stands for a block whose outputs, batch by batch, are known; looks at no input."""

    def __init__(self, outputs: list[Tensor]) -> None:
        super().__init__()
        self._outputs = iter(outputs)

    def forward(self, *_: Tensor) -> Tensor:
        return next(self._outputs)


def _blocks(module: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Module]]:
    for name, child in module.named_children():
        path = f"{prefix}{name}"
        if isinstance(child, CONTAINERS):
            yield from _blocks(child, f"{path}.")
        else:
            yield path, child
