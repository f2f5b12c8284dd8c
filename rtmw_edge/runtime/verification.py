"""Is what runs here what was exported? An engine's answers to a bundle's golden crops, compared with the true ones."""

from __future__ import annotations

from ..bundle import Agreement, Bundle, Tolerance, agreement
from ..errors import VerificationError
from .engine import Engine, refusals_of


def verify(engine: Engine, bundle: Bundle, crops: int | None = None) -> list[Agreement]:
    """How far `engine` is from the golden outputs of `bundle`, one entry a crop; of the first `crops` when given."""
    golden = bundle.golden()
    if crops is not None:
        golden = golden.first(crops)
    with refusals_of(engine.runtime, bundle, engine.device):
        answers = engine.infer(golden.crops)
    return agreement(golden, answers, bundle.manifest.tolerance)


def check(engine: Engine, bundle: Bundle, found: list[Agreement]) -> None:
    """Raise VerificationError when one of `found` is beyond the bundle's tolerance; it names runtime and figure."""
    for index, crop in enumerate(found):
        wrong = " and ".join(_beyond(crop, bundle.manifest.tolerance))
        if wrong:
            ran = engine.describe()
            raise VerificationError(
                f"{ran.runtime} {ran.version} on '{ran.device}' computes {bundle.source} wrong: on golden crop {index} "
                f"{wrong}. Use another runtime or version; a network that is hardly trained may do this too."
            )


def _beyond(crop: Agreement, tolerance: Tolerance) -> list[str]:
    """The figures of one crop that are beyond the tolerance, in words."""
    words = []
    if not crop.relative_rms <= tolerance.relative_rms:
        words.append(f"the logits are {crop.relative_rms:.3g} off (relative rms, at most {tolerance.relative_rms:g})")
    if not crop.keypoint_px_p99 <= tolerance.keypoint_px_p99:
        most = f"99th percentile, at most {tolerance.keypoint_px_p99:g}"
        words.append(f"the keypoints are {crop.keypoint_px_p99:.3g} px off ({most})")
    return words
