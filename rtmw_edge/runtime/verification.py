"""Is what runs here what was exported? An engine's answers to a bundle's golden crops, compared with the true ones."""

from __future__ import annotations

from ..bundle import Agreement, Bundle, agreement
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
    tolerance = bundle.manifest.tolerance
    for index, crop in enumerate(found):
        if not crop.within(tolerance):
            ran = engine.describe()
            raise VerificationError(
                f"{ran.runtime} {ran.version} on '{ran.device}' computes {bundle.source} wrong: on golden crop {index} "
                f"the logits are {crop.relative_rms:.3g} off (relative rms, at most {tolerance.relative_rms:g}) and "
                f"the keypoints {crop.keypoint_px_p99:.3g} px (99th percentile, at most "
                f"{tolerance.keypoint_px_p99:g}). Use another runtime or version."
            )
