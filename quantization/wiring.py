"""Which points feed which: how the places between convolutions are told apart in a converted file, and whose integers a
convolution reads on the grid `full`."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from torch import fx, nn

if TYPE_CHECKING:
    from rtmw_edge.targets.rewrites import Deployable

Sources = frozenset[str]


def wiring(network: Deployable) -> dict[str, Sources]:
    """The nearest points above each point between convolutions and above each "<convolution>:input".

    Points of convolutions are "<convolution>:output", before SiLU. The image is the empty set; operations without a
    point of their own, such as upsampling, hand on what they read.

    >>> wiring(deployable(build("rtmw-n-256x192")))["backbone.stage1.1.attention:mean"]
    frozenset({'backbone.stage1.1.join:concat'})
    """
    convolutions = {id(conv): name for name, conv in network.convolutions().items()}
    places = {id(place): point for point, place in network.between().items()}
    found: dict[str, Sources] = {}
    above: dict[fx.Node, Sources] = {}
    for node in _trace(network, {*convolutions, *places}).nodes:
        sources: Sources = frozenset().union(*(above[source] for source in node.all_input_nodes))
        if node.op == "call_module":
            called = id(network.get_submodule(cast(str, node.target)))
            if called in convolutions:
                name = convolutions[called]
                found[f"{name}:input"] = sources
                sources = frozenset({f"{name}:output"})
                if f"{name}:silu" in network.between():
                    found[f"{name}:sigmoid"] = sources
                    found[f"{name}:silu"] = sources | {f"{name}:sigmoid"}
                    sources = frozenset({f"{name}:silu"})
            elif called in places:
                found[places[called]] = sources
                sources = frozenset({places[called]})
        above[node] = sources
    return found


def _trace(network: nn.Module, points: set[int]) -> fx.Graph:
    """The calls of one forward pass; a module is looked into only where it holds points and is none."""

    class Tracer(fx.Tracer):
        def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
            inside: set[int] = {id(module) for module in m.modules()}
            return id(m) in points or not inside & points

    return Tracer().trace(network)
