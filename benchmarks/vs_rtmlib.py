"""Our runner against rtmlib on one network in ONNX Runtime with one set of options, in turns: one person, and four.

    pip install --no-deps rtmlib tqdm
    python benchmarks/vs_rtmlib.py [--variant rtmw-m-256x192] [--threads 2] [--processor-time]

Both run the same weights in float32, each in the graph that it wants: ours takes uint8 crops and normalizes inside,
rtmlib's takes normalized float crops. Their keypoints must agree first. Prints medians, 90th percentiles and paired
ratios with 95 % intervals: what our call costs over the bare session, in float and for the builtin int8 model; our time
over rtmlib's for four people: one by one, two of them side by side (where there are two threads), and in a bundle
exported for four at once (`--batch 4`); and last "ratio R", that for one person. --processor-time is for machines that
are not quiet.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from networks import timing_options, weights_for
from rtmw_edge.targets.export import export, load_deployable

from rtmw_edge.models.variants import MEAN_RGB, STD_RGB, variant_named
from rtmw_edge.runtime import Runner, load
from rtmw_edge.runtime.benchmark import scene
from rtmw_edge.runtime.onnx_session import session_options
from rtmw_edge.runtime.timing import Pace, in_turns

PEOPLE = 4
AGREE_PX, AGREE_SHARE = 0.5, 0.99
"""So many keypoints must lie within half a crop pixel of each other; float sums differ in their order."""


def rtmlib_pose(variant: str, weights: Path, folder: Path, threads: int) -> Any:
    """rtmlib's own pose class on a graph of the same weights, with our session's options."""
    from rtmlib.tools.pose_estimation.rtmpose import RTMPose

    network = load_deployable(variant, weights)
    width, height = variant_named(variant).input_size
    path = folder / "normalized.onnx"
    with torch.no_grad():
        torch.onnx.export(
            network,
            (torch.zeros(1, 3, height, width),),
            path,
            dynamo=True,
            external_data=False,
            opset_version=18,
            input_names=["input"],
            output_names=["simcc_x", "simcc_y"],
            verbose=False,
        )
    # The deployable network takes BGR, as OpenCV gives it to both.
    pose = RTMPose(str(path), (width, height), MEAN_RGB[::-1], STD_RGB[::-1])
    pose.session = onnxruntime.InferenceSession(path, session_options(threads), providers=["CPUExecutionProvider"])
    return pose


def check_agreement(runner: Runner, pose: Any, trained: bool) -> None:
    """Exit with 1 unless both find the same keypoints: otherwise they did different work."""
    image, boxes = scene(PEOPLE)
    ours, (theirs, _) = runner(image, boxes), pose(image, boxes)
    pixels = boxes[0, 3] * 1.25 / runner.input_size[1]
    near = np.linalg.norm(ours.keypoints - theirs, axis=2) <= AGREE_PX * pixels
    print(f"{100 * near.mean():.1f} % of the keypoints agree within {AGREE_PX} crop pixels")
    if trained and near.mean() < AGREE_SHARE:
        raise SystemExit("rtmlib and this runner find different keypoints: the times would compare different work")


def over_bare(runner: Runner, processor_time: bool) -> Pace:
    """A whole call for one person against the runtime alone on its crop."""
    image, boxes = scene(1)
    crop = runner.cut(image, boxes).crops.copy()
    return in_turns(lambda: runner(image, boxes), lambda: runner.engine.run(crop), processor_time=processor_time)


def over_rtmlib(runner: Runner, pose: Any, people: int, processor_time: bool) -> Pace:
    """Our call against rtmlib's, for so many people in one picture."""
    image, boxes = scene(people)
    return in_turns(lambda: runner(image, boxes), lambda: pose(image, boxes), processor_time=processor_time)


def main() -> None:
    options = timing_options(__doc__).parse_args()
    counted = options.processor_time
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        weights, trained = weights_for(options.variant, options.weights, folder)
        pose = rtmlib_pose(options.variant, weights, folder, options.threads)
        bundle = export(options.variant, "onnx", "fp32", folder / "bundle", weights=weights)
        opened = {"threads": options.threads, "verify": trained}
        with load(bundle, **opened, streams=1) as runner:
            print(f"{options.variant} fp32, ONNX Runtime {onnxruntime.__version__}, {options.threads} thread(s)")
            check_agreement(runner, pose, trained)
            print(f"fp32, runner(image, 1 box) over the bare session: {over_bare(runner, counted)}")
            with load("builtin", threads=options.threads) as integer:
                print(f"builtin int8, runner(image, 1 box) over the bare session: {over_bare(integer, counted)}")
            print(f"four people one by one, ours over rtmlib's: {over_rtmlib(runner, pose, PEOPLE, counted)}")
            if options.threads > 1:
                with load(bundle, **opened, streams=2) as beside:
                    check_agreement(beside, pose, trained)
                    print(f"four people side by side, ours over rtmlib's: {over_rtmlib(beside, pose, PEOPLE, counted)}")
            four = export(options.variant, "onnx", "fp32", folder / "four", weights=weights, batch=PEOPLE)
            with load(four, **opened, streams=1) as at_once:
                check_agreement(at_once, pose, trained)
                print(f"four people at once, ours over rtmlib's: {over_rtmlib(at_once, pose, PEOPLE, counted)}")
            one = over_rtmlib(runner, pose, 1, counted)
            print(f"one person, ours over rtmlib's: {one}")
            print(f"ratio {one.ratio:.3f}")


if __name__ == "__main__":
    main()
