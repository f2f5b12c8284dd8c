"""How long decoding takes: `python benchmarks/decode.py`; 133 joints of one person stay under 100 microseconds."""

from __future__ import annotations

import argparse
import timeit

import numpy as np

from rtmw_edge.simcc import decode, decode_3d


def microseconds(axes: tuple[int, ...], people: int, subbin: bool) -> tuple[float, float]:
    """Median and 90th percentile of one call on random logits with `axes` bins."""
    rng = np.random.default_rng(0)
    logits = [rng.normal(size=(people, 133, bins)).astype(np.float32) for bins in axes]
    run = decode if len(axes) == 2 else decode_3d
    calls = timeit.repeat(lambda: run(logits, subbin=subbin), number=20, repeat=100)
    p50, p90 = np.percentile(np.array(calls) / 20 * 1e6, [50, 90])
    return float(p50), float(p90)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, nargs="+", default=[1, 8])
    people = parser.parse_args().people
    print(f"{'bins':>15} {'people':>6} {'sub-bin':>7} {'p50 us':>8} {'p90 us':>8}")
    for axes in ((384, 512), (576, 768), (576, 768, 576)):
        for count in people:
            for subbin in (False, True):
                p50, p90 = microseconds(axes, count, subbin)
                print(f"{'+'.join(map(str, axes)):>15} {count:>6} {'yes' if subbin else 'no':>7} {p50:8.1f} {p90:8.1f}")


if __name__ == "__main__":
    main()
