"""How many crops, person pictures and scenes the renderer draws per second of one core's processor time.

    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python benchmarks/render_speed.py [--count 400]

Prints the median over blocks of 50 after a warm-up that compiles the kernels and fills the pools, and the resident
memory. Neighbours on the machine take caches and memory bandwidth all the same: compare only figures of one run.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time

import cv2

from rtmw_edge.data.synthetic import Renderer

BLOCK = 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=400)
    count = parser.parse_args().count
    cv2.setNumThreads(1)
    start = time.perf_counter()
    renderer = Renderer("train")
    print(f"start: {time.perf_counter() - start:.2f} s")
    for index in range(200):
        renderer.crop(index)
    for name, draw, size in (
        ("crop", renderer.crop, "192x256"),
        ("person", renderer.person, "240x320"),
        ("scene", renderer.scene, "640x480"),
    ):
        rates = []
        for first in range(200, 200 + count, BLOCK):
            start = time.process_time()
            for index in range(first, first + BLOCK):
                draw(index)
            rates.append(BLOCK / (time.process_time() - start))
        print(f"{name} {size}: {statistics.median(rates):.1f}/s (best block {max(rates):.1f}/s)")
    print(f"memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
