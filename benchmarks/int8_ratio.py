"""How much faster int8 is than float32, one thread, runtime by runtime, the two in turns.

    python benchmarks/int8_ratio.py [--variant rtmw-m-256x192] [--targets onnx openvino tflite ncnn] [--threads 1]
                                    [--grids common full]

Times the engine's inference of one crop, on those of the grids that the target has. Prints medians, the ratio of
float32 to int8 (above 1: int8 is faster) with its 95 % interval, and how many convolutions really ran in int8. Without
trained weights some are filled from their names: the same work, though nothing is found. --processor-time is for
machines that are not quiet.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from networks import timing_options, weights_for
from rtmw_edge.quantization import GRIDS
from rtmw_edge.targets import target_named
from rtmw_edge.targets.export import export, load_deployable
from rtmw_edge.targets.scales import calibrate

from rtmw_edge.errors import NotAvailableError
from rtmw_edge.runtime import Runner, load
from rtmw_edge.runtime.processor import int8_flags
from rtmw_edge.runtime.timing import in_turns

TARGETS = ("onnx", "openvino", "tflite", "ncnn")
INT8_GRIDS = [name for name, grid in GRIDS.items() if grid.precision == "int8"]


def ratio(single: Runner, integer: Runner, processor_time: bool) -> str:
    """One line on two runners of one target."""
    crop = np.random.default_rng(0).integers(0, 256, (1, *single.input_size[::-1], 3), np.uint8)
    pace = in_turns(lambda: single.engine.run(crop), lambda: integer.engine.run(crop), processor_time=processor_time)
    ran = integer.describe()
    return f"{ran.runtime} {ran.version}, float32 against int8: {pace}; {ran.int8_share}"


def main() -> None:
    parser = timing_options(__doc__, TARGETS)
    parser.add_argument("--grids", nargs="+", default=["common", "full"], choices=INT8_GRIDS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        weights, trained = weights_for(options.variant, options.weights, folder)
        network = load_deployable(options.variant, weights)
        tables = {name: calibrate(network, options.calibration, grid=GRIDS[name]) for name in options.grids}
        print(f"{options.variant}, {options.threads} thread(s), int8 instructions: {', '.join(int8_flags()) or 'none'}")
        for target in options.targets:
            try:
                plain = export(options.variant, target, "fp32", folder / f"{target}-fp32", weights=weights)
                with load(plain, threads=options.threads, verify=trained) as single:
                    for grid in (grid for grid in tables if grid in target_named(target).grids):
                        out = folder / f"{target}-{grid}"
                        int8 = export(options.variant, target, "int8", out, weights=weights, table=tables[grid])
                        with load(int8, threads=options.threads, verify=trained) as integer:
                            print(f"{grid}, {ratio(single, integer, options.processor_time)}", flush=True)
            except NotAvailableError as error:
                print(f"{target}: {error}")


if __name__ == "__main__":
    main()
