"""Which points feed which, on networks whose wiring is known."""

from __future__ import annotations

from rtmw_edge.quantization import FULL
from rtmw_edge.quantization.fake import points_of
from rtmw_edge.quantization.wiring import wiring
from rtmw_edge.targets.rewrites import deployable
from small_deployable import small_deployable

from rtmw_edge.models import build

SMALL = {
    "stem:input": [],
    "middle:input": ["stem:silu"],
    "depthwise:input": ["middle:silu"],
    "add:sum": ["depthwise:silu", "middle:silu"],
    "pointwise:input": ["add:sum"],
    "down:input": ["pointwise:output"],
    "attention:mean": ["down:output"],
    "attention:input": ["attention:mean"],
    "attention:product": ["attention:output", "down:output"],
    "branch:input": ["attention:product"],
    "join:concat": ["attention:product", "branch:silu"],
    "head:input": ["join:concat"],
}


def test_the_small_network() -> None:
    found = wiring(small_deployable())
    plain = {point: sorted(sources) for point, sources in found.items() if not point.endswith((":silu", ":sigmoid"))}
    assert plain == SMALL
    assert found["branch:sigmoid"] == {"branch:output"}
    assert found["branch:silu"] == {"branch:output", "branch:sigmoid"}


def test_the_real_network() -> None:
    """Upsampling, pooling and the pixel shuffle hand on what they read; no two places read the same points."""
    network = deployable(build("rtmw-n-256x192"))
    found = wiring(network)
    places = network.between()
    assert set(found) == {*places, *(f"{name}:input" for name in network.convolutions())}
    assert found["backbone.stage4.1.conv2.conv:input"] == {"backbone.stage4.1.conv1.conv:silu"}
    assert found["neck.top_down_joins.0:concat"] == {
        "neck.reduce_layers.0.conv:silu",
        "backbone.stage3.1.final_conv.conv:silu",
    }
    assert found["head.conv_dec.conv:input"] == {"neck.bottom_up_blocks.1.final_conv.conv:silu"}
    assert found["head.join:concat"] == {"head.conv_dec.conv:output", "neck.bottom_up_blocks.0.final_conv.conv:silu"}
    keys = [(point.rpartition(":")[2], found[point]) for point in places]
    assert len(set(keys)) == len(keys)
    sources = {source for point, above in found.items() for source in above}
    assert sources <= points_of(network, FULL)
    assert all(len(found[f"{name}:input"]) == 1 for name in list(network.convolutions())[1:])
