"""The official training step of RTMW as MMPose itself takes it, from packages in a folder beside the project.

    pip install --no-deps --target /tmp/official mmpose==1.3.2 mmengine==0.10.7 mmcv-lite==2.2.0 \\
        addict yapf termcolor platformdirs
    python benchmarks/train_step.py --official /tmp/official

Network, loss, optimiser, clipping and average are built from MMPose's own configuration file and run by its own
`train_step` and EMA hook. The images come as a list of uint8 tensors and the labels as arrays that MMPose's codec made,
as its loader gives them; making them is not in the step, as it is in ours.
"""

from __future__ import annotations

import logging
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import torch
from torch import Tensor

from rtmw_edge.errors import BadInputError, NotAvailableError
from rtmw_edge.training.stream import Batch

STAND_INS = (
    *("xtcocotools", "xtcocotools.coco", "xtcocotools.cocoeval", "xtcocotools.mask"),
    *("mmcv.ops", "mmdet", "mmdet.utils", "json_tricks", "matplotlib", "matplotlib.pyplot", "munkres", "six"),
    "six.moves",
)
"""What MMPose imports for its data sets, metrics, pictures and other models, and no step of RTMW calls."""


class OfficialStep:
    """One optimiser step of the official RTMW, always on the same passes; `lr` is that of every step.

    Raises NotAvailableError where `folder` does not hold the packages, BadInputError where no official
    configuration of the variant exists.
    """

    def __init__(
        self, folder: Path, variant: str, state: dict[str, Tensor], batches: list[Batch], *, lr: float, device: str
    ) -> None:
        config = read_config(folder, variant)
        from mmengine.optim import build_optim_wrapper
        from mmpose.registry import HOOKS, MODELS

        config.model.backbone.pop("init_cfg")  # a download, of weights that `state` replaces
        config.optim_wrapper.optimizer.lr = lr
        config.optim_wrapper.accumulative_counts = len(batches)
        self.model = MODELS.build(config.model)
        self.model.load_state_dict(state)
        self.model.to(device).train()
        self.optimizer = build_optim_wrapper(self.model, config.optim_wrapper)
        (hook,) = (hook for hook in config.custom_hooks if hook.type == "EMAHook")
        self.average = HOOKS.build({key: value for key, value in hook.items() if key != "priority"})
        self.runner = SimpleNamespace(model=self.model, iter=0, epoch=0)
        self.average.before_run(self.runner)
        self.passes = [official_batch(batch, config.codec) for batch in batches]

    def __call__(self) -> float:
        """The loss before the step, a mean over its passes. As in MMPose, the average moves after every pass."""
        loss = 0.0
        for data in self.passes:
            loss += self.model.train_step(data, self.optimizer)["loss_kpt"].item()
            self.average.after_train_iter(self.runner, self.runner.iter)
            self.runner.iter += 1
        return loss / len(self.passes)


def read_config(folder: Path, variant: str) -> Any:
    """MMPose's own configuration of a variant, once MMPose can be imported."""
    sys.path.append(str(folder))  # behind our own packages
    for name in STAND_INS:
        sys.modules.setdefault(name, MagicMock())
    warnings.filterwarnings("ignore", module="mmcv|mmengine|mmpose")
    logging.disable(logging.INFO)  # a line for every parameter that does not decay
    try:
        import mmpose.engine
        import mmpose.models
        from mmengine.config import Config
        from mmengine.registry import init_default_scope
    except ImportError as error:
        raise NotAvailableError(
            f"MMPose cannot be imported from {folder} ({error}); fill it as official_step.py says at its head."
        ) from error
    init_default_scope("mmpose")
    name, size = variant.rsplit("-", 1)
    files = sorted(Path(mmpose.__path__[0]).glob(f".mim/configs/**/cocktail14/{name}_*-{size}.py"))
    if not files:
        raise BadInputError(f"MMPose has no configuration of {variant}; choose one of rtmw-m, -l, -x.")
    return Config.fromfile(files[0])


def official_batch(batch: Batch, codec: dict[str, object]) -> dict[str, list[object]]:
    """The same crops and keypoints as MMPose's loader would give them: labels drawn by its codec."""
    from mmengine.structures import InstanceData
    from mmpose.registry import KEYPOINT_CODECS
    from mmpose.structures import PoseDataSample

    encoder = KEYPOINT_CODECS.build(codec)
    crops, points, weights, _ = batch
    samples = []
    for person, visible in zip(points.numpy(), weights[..., 0].numpy(), strict=True):
        labels = encoder.encode(person[None, :, :2], visible[None])
        sample = PoseDataSample()
        sample.gt_instance_labels = InstanceData(
            keypoint_x_labels=torch.from_numpy(labels["keypoint_x_labels"]),
            keypoint_y_labels=torch.from_numpy(labels["keypoint_y_labels"]),
            keypoint_weights=torch.from_numpy(labels["keypoint_weights"]),
        )
        samples.append(sample)
    return {"inputs": [crop.permute(2, 0, 1).contiguous() for crop in crops], "data_samples": samples}
