"""What it gains to run two people side by side on half of the threads each, runtime by runtime, in turns.

    python benchmarks/streams.py [--variant rtmw-n-256x192] [--precision int8] [--threads 2] [--streams 2]

Both run `runner(image, boxes)`: one with `streams`, the other one person after the other on all threads. Their answers
must be equal to the bit. Prints medians and the ratio of their times (below 1: side by side gains) with its 95 %
interval for as many people as streams, one more and twice as many, without spinning, as `rtmw-edge run` has it, and
with. --processor-time is for machines that are not quiet.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from networks import timing_options, weights_for
from rtmw_edge.targets.export import export, load_deployable
from rtmw_edge.targets.scales import calibrate

from rtmw_edge.errors import NotAvailableError
from rtmw_edge.runtime import Runner, load
from rtmw_edge.runtime.benchmark import scene
from rtmw_edge.runtime.processor import cores
from rtmw_edge.runtime.timing import Pace, in_turns

TARGETS = ("onnx", "openvino", "tflite", "ncnn")


def gain(beside: Runner, alone: Runner, people: int, processor_time: bool) -> Pace:
    """The time of `beside` over that of `alone` on so many people; raises SystemExit where their answers differ."""
    image, boxes = scene(people)
    beside(image, boxes)  # alone is how an engine does it the first time
    one, other = beside(image, boxes), alone(image, boxes)
    if not (np.array_equal(one.keypoints, other.keypoints) and np.array_equal(one.scores, other.scores)):
        raise SystemExit(f"side by side the answers of {beside.model.target} {beside.model.precision} differ")
    return in_turns(lambda: beside(image, boxes), lambda: alone(image, boxes), processor_time=processor_time)


def main() -> None:
    parser = timing_options(__doc__, TARGETS)
    parser.add_argument("--precision", nargs="+", default=["fp32", "int8"], choices=("fp32", "int8"))
    parser.set_defaults(threads=cores())
    parser.add_argument("--streams", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        weights, trained = weights_for(options.variant, options.weights, folder)
        table = None
        if "int8" in options.precision:
            table = calibrate(load_deployable(options.variant, weights), options.calibration)
        print(f"{options.variant}, {options.threads} threads, {options.streams} people side by side")
        for target in options.targets:
            for precision in options.precision:
                scales = table if precision == "int8" else None
                out = folder / f"{target}-{precision}"
                try:
                    bundle = export(options.variant, target, precision, out, weights=weights, table=scales)
                    # Spinning is ONNX Runtime's; the others do as they do.
                    for spin in (False, True)[: 1 + (target == "onnx")]:
                        opened = {"threads": options.threads, "verify": trained, "spin": spin}
                        with (
                            load(bundle, streams=options.streams, **opened) as beside,
                            load(bundle, streams=1, **opened) as alone,
                        ):
                            print(f"{target} {precision}{', spinning' if spin else ''}")
                            for people in (options.streams, options.streams + 1, 2 * options.streams):
                                pace = gain(beside, alone, people, options.processor_time)
                                print(f"  {people} people, side by side against one by one: {pace}", flush=True)
                except NotAvailableError as error:
                    print(f"{target}: {error}")


if __name__ == "__main__":
    main()
