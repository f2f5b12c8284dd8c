"""Runners that answer the rendered people of a data set with their labels, moved part by part as a test asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from rtmw_edge.crops import box_to_crop, warp_matrix
from rtmw_edge.evaluation.datasets import SyntheticPeople
from rtmw_edge.evaluation.evaluate import clipped_boxes
from rtmw_edge.evaluation.validate import Contender
from rtmw_edge.keypoints import PARTS
from rtmw_edge.models.variants import variant_named
from rtmw_edge.runtime import Description, Engine, Model, Runner
from rtmw_edge.simcc import encode, encode_3d

PEAK = 8.0


class LabelEngine(Engine):
    """Answers the one person of every image, in order, with training labels.

    `moved` maps a part to how many crop pixels its keypoints lie to the right of their labels; `deeper` is added to the
    depth in metres of every keypoint but the hips.
    """

    runtime, devices = "labels", ("cpu",)

    def __init__(
        self, people: SyntheticPeople, variant: str, moved: Mapping[str, float] | None = None, deeper: float = 0.0
    ) -> None:
        known = variant_named(variant)
        model = Model(variant, "onnx", "int8", known.input_size, tuple(known.bins.values()), known.z_range, None)
        super().__init__(model, "cpu", None, batch=1, fixed=False)
        self._items = iter(people)
        self._moved, self._deeper = moved or {}, deeper

    def run(self, crops: NDArray[np.uint8]) -> Sequence[NDArray[np.float32]]:
        item = next(self._items)
        size = self.model.input_size
        centers, scales = box_to_crop(clipped_boxes(item, np.array([0])), size)
        matrix = warp_matrix(centers[0], scales[0], size)
        points = item.people.keypoints @ matrix[:, :2].T + matrix[:, 2]
        for part, pixels in self._moved.items():
            points[:, PARTS[part], 0] += pixels
        shown = item.people.visible > 0
        if self.model.z_range is None:
            labels = encode(points, shown, size)
            return PEAK * labels.x, PEAK * labels.y
        assert item.labels_3d is not None
        metres = item.labels_3d.metres.astype(np.float64)
        metres[:, [k for k in range(133) if k not in (11, 12)], 2] += self._deeper
        labels = encode_3d(points, shown, metres, size)
        assert labels.z is not None
        return PEAK * labels.x, PEAK * labels.y, PEAK * labels.z

    def describe(self) -> Description:
        return Description(self.runtime, "1", "cpu", None, {"QLinearConv": 3, "Conv": 1}, 3)


def contender(
    people: SyntheticPeople,
    name: str = "device",
    variant: str = "rtmw-n-256x192",
    moved: Mapping[str, float] | None = None,
    deeper: float = 0.0,
) -> Contender:
    """A runner of labels under a name, with a hash of weights that it does not have."""
    return Contender(name, Runner(LabelEngine(people, variant, moved, deeper)), "0" * 64)
