"""What a graph that takes several people at once gains over one that takes one, runtime by runtime, in turns.

    python benchmarks/batch.py [--variant rtmw-n-256x192] [--precision fp32] [--batch 4] [--targets onnx] [--threads 1]

Both run `runner(image, boxes)`, on a full batch and on one person, whom a larger graph costs as much as a full batch.
Prints medians and the ratio of the larger graph's time to the other's (below 1: it gains) with its 95 % interval.
ncnn's files take one crop. --processor-time is for machines that are not quiet.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from networks import timing_options, weights_for
from rtmw_edge.targets.export import export, load_deployable
from rtmw_edge.targets.scales import calibrate

from rtmw_edge.errors import NotAvailableError
from rtmw_edge.runtime import Runner, load
from rtmw_edge.runtime.benchmark import scene
from rtmw_edge.runtime.timing import in_turns

TARGETS = ("onnx", "openvino", "tflite")


def gain(larger: Runner, single: Runner, people: int, processor_time: bool) -> str:
    """One line on two runners of one target that get so many people."""
    image, boxes = scene(people)
    pace = in_turns(lambda: larger(image, boxes), lambda: single(image, boxes), processor_time=processor_time)
    return f"  {'1 person' if people == 1 else f'{people} people'}, at once against one by one: {pace}"


def main() -> None:
    parser = timing_options(__doc__, TARGETS)
    parser.add_argument("--precision", default="fp32", choices=("fp32", "int8"))
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        weights, trained = weights_for(options.variant, options.weights, folder)
        table = None
        if options.precision == "int8":
            table = calibrate(load_deployable(options.variant, weights), options.calibration)
        print(f"{options.variant} {options.precision}, batch {options.batch}, {options.threads} thread(s)")
        for target in options.targets:
            try:
                bundles = [
                    export(
                        options.variant,
                        target,
                        options.precision,
                        folder / f"{target}-{batch}",
                        weights=weights,
                        table=table,
                        batch=batch,
                    )
                    for batch in (options.batch, 1)
                ]
                opened = {"device": options.device, "threads": options.threads, "verify": trained, "streams": 1}
                with load(bundles[0], **opened) as larger, load(bundles[1], **opened) as single:
                    ran = single.describe()
                    print(f"{ran.runtime} {ran.version}, {ran.device}")
                    for people in (options.batch, 1):
                        print(gain(larger, single, people, options.processor_time), flush=True)
            except NotAvailableError as error:
                print(f"{target}: {error}")


if __name__ == "__main__":
    main()
