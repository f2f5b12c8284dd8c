"""From weights to a bundle: load, rewrite, convert, read the scales back, and pack with golden vectors.

>>> from rtmw_edge.targets.export import export
>>> export("rtmw-n-256x192", "onnx", "int8", Path("bundle"), calibration="synthetic:200")      # doctest: +SKIP
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rtmw_edge.calibration import Source
from rtmw_edge.quantization import Grid, Table
from rtmw_edge.quantization.table import printable

from rtmw_edge import bundle
from rtmw_edge.errors import BadInputError, RtmwEdgeError
from rtmw_edge.files import sha256_of
from rtmw_edge.models.variants import Variant, variant_named
from rtmw_edge.models.weights import embedded, find, score_calibration
from rtmw_edge.simcc import SPLIT_RATIO

from . import target_named
from .base import INPUT, Converted, OnStep, Precision, Stored, Target, check_scales, grid_of, installed
from .golden import golden_vectors, tolerance
from .half_precision import check_fits
from .peers import OURS, TOLERANCE, Peer, peer_named
from .scales import ScaleSource, counted_crops

if TYPE_CHECKING:
    from .rewrites import Deployable

logger = logging.getLogger(__name__)

NEEDED = ("torch", "safetensors", "numba")
"""Distributions that every export imports: the network, its weights, and the renderer of the golden crops."""


def export(
    variant: str,
    target: str,
    precision: str,
    out: Path,
    *,
    weights: Path | None = None,
    grid: str | None = None,
    calibrator: str = OURS,
    calibration: str | Source | None = None,
    boxes: Path | None = None,
    method: str | None = None,
    table: Path | Table | None = None,
    floats: Sequence[str] = (),
    save_table: Path | None = None,
    batch: int = 1,
    on_step: OnStep = lambda _: None,
) -> Path:
    """Write the bundle of one variant, target and precision to `out` (a directory, or a .zip); returns `out`.

    `weights` is a .pth or .safetensors file; without it the embedded or fetched ones are used. The quantized precisions
    are on `grid`, by default the target's first for the precision. They take their scales from `table`, or calibrate on
    `calibration` ("synthetic:N" or a folder, with `boxes` as in `rtmw-edge run`) by `method`, and write what they used
    to `save_table`; with none of these, the embedded weights take the table that ships with them, and those of a run of
    `rtmw-edge qat` the one that lies beside them (see `scales`). The manifest says what the scales are from.
    `calibrator` names a tool that quantizes by itself on the same crops instead, without a table (see `peers`).
    `floats` are convolutions to leave in float, which the precision "int8-mixed" is for. The graph takes `batch` crops
    at once. `on_step` hears one short line before each step.

    Raises BadInputError for an unknown name, an unsupported pair, unusable weights or images; NotAvailableError when a
    converter is not installed; VerificationError when the written file does not hold the table's scales.
    """
    model, writer, kind = _checked(variant, target, precision, batch)
    arithmetic = grid_of(writer, kind, grid)
    peer = None if calibrator == OURS else peer_named(calibrator, target, kind)
    tools = installed([*NEEDED, *writer.requirements()])
    if peer is not None:
        tools |= installed(peer.requirements, extra="peers")
    bundle.check_replaceable(Path(out))
    if save_table is not None and Path(out).resolve() in (save_table.resolve(), *save_table.resolve().parents):
        raise BadInputError(f"A bundle holds nothing else: keep the table '{save_table}' out of '{out}'.")
    asked = ScaleSource(table, calibration, boxes, method)
    if arithmetic is None:
        if asked.calibrates or table or save_table or floats:
            raise BadInputError(f"{kind} needs no calibration and no table; leave them out, or export int8.")
    else:
        asked.check(arithmetic)
    if peer is not None and (grid or table or save_table or floats or method):
        raise BadInputError(
            f"{peer.name} has its own grid and method and makes no table; leave out --grid, --method, --keep-float and "
            "tables."
        )
    quantized = arithmetic if peer is None else None
    path = find(model, weights)
    on_step(f"loading {path.name}")
    with _unchanged(path) as weights_sha256:
        network = load_deployable(model, path)
        ready = None
        if quantized is not None:
            ready = asked.ready(network, path, quantized, writer if grid is None else None, on_step)
    if kind is Precision.FP16:
        check_fits(network)
    scales = None
    if quantized is not None:
        scales = _scales(network, kind, quantized, asked, ready, floats, on_step)
        if grid is not None and scales.grid != grid:
            raise BadInputError(
                f"The quantization table is on the grid {scales.grid}, not on {grid}; leave out --grid."
            )
        grid_of(writer, kind, scales.grid)
        if save_table is not None:
            scales.save(save_table)
    on_step("computing golden outputs")
    crops, logits, movement = golden_vectors(network, scales, () if scales is None else writer.carried(scales.grid))
    with tempfile.TemporaryDirectory(prefix="rtmw-edge-") as folder:
        stored: Mapping[str, Stored] = {}
        if peer is None:
            converted, stored = _converted(writer, network, scales, kind, Path(folder), batch, on_step)
            origin = None if scales is None else scales.origin
        else:
            converted, origin = _quantized_by(peer, network, asked.images(), Path(folder), batch, on_step)
        on_step("packing the bundle")
        counts = converted.convolutions
        fields = {
            **_described(model, converted, batch),
            "convolutions": {**counts, "int8_macs": int8_share(network, counts, stored)},
            "target": target,
            "precision": str(kind),
            "grid": scales.grid if scales is not None else peer and peer.name,
            "score": _score(model, path),
            "tools": tools,
            "weights_sha256": weights_sha256,
            "table_sha256": scales.sha256 if scales is not None else None,
            "scales": origin,
            "tolerance": asdict(tolerance(bundle.TOLERANCES[kind], movement) if peer is None else TOLERANCE),
        }
        return bundle.write(Path(out), fields, converted.files, crops, logits)


def _converted(
    writer: Target,
    network: Deployable,
    scales: Table | None,
    kind: Precision,
    folder: Path,
    batch: int,
    on_step: OnStep,
) -> tuple[Converted, Mapping[str, Stored]]:
    """The files of a target in `folder`, and what they hold of the scales, which is what the table says."""
    from rtmw_edge.quantization.fake import corrected

    exact = network if scales is None else corrected(network, scales)
    with _converter_failures(writer.name):
        converted = writer.convert(exact, scales, kind, folder, batch, on_step)
    if scales is None:
        return converted, {}
    on_step("comparing the written scales with the table")
    stored = writer.read_scales(converted.files, exact)
    check_scales(scales, stored, writer)
    return converted, stored


def _quantized_by(
    peer: Peer, network: Deployable, source: Source, folder: Path, batch: int, on_step: OnStep
) -> tuple[Converted, str]:
    """The files of a peer in `folder`, and what their scales are from."""
    seen = np.concatenate(list(counted_crops(network, source, on_step)))
    with _converter_failures(peer.name):
        converted = peer.quantize(network, seen, folder, batch, on_step)
    return converted, printable(f"{peer.name}, {len(source)} crops of {source.manifest()['source']}")


def load_deployable(variant: str | Variant, weights: Path) -> Deployable:
    """The deployable network of `variant` with the weights of a checkpoint."""
    from rtmw_edge.models import build
    from rtmw_edge.models.checkpoints import load_weights

    from .rewrites import deployable

    network = build(variant)
    load_weights(network, weights)
    return deployable(network)


def _checked(variant: str, target: str, precision: str, batch: int) -> tuple[Variant, Target, Precision]:
    model, writer, kind = variant_named(variant), target_named(target), Precision.named(precision)
    if batch > writer.max_batch == 1:
        raise BadInputError(f"{target} runs one crop at a time, so a batch of {batch} cannot be exported; use batch 1.")
    if not 1 <= batch <= writer.max_batch:
        raise BadInputError(
            f"Batch {batch} is not between 1 and {writer.max_batch}; choose how many crops the graph takes."
        )
    return model, writer, kind


@contextmanager
def _unchanged(weights: Path) -> Iterator[str]:
    """The sha256 of a file that is read meanwhile; BadInputError where it is another one afterwards."""
    digest = sha256_of(weights)
    yield digest
    if sha256_of(weights) != digest:
        raise BadInputError(f"'{weights}' changed while it was read, as by a training that still runs; export again.")


@contextmanager
def _converter_failures(target: str) -> Iterator[None]:
    """Turn whatever a converter raises into one sentence; `--verbose` shows where it came from."""
    try:
        yield
    except (RtmwEdgeError, OSError):
        raise
    except Exception as error:
        logger.info("the %s converter failed", target, exc_info=True)
        reason = (str(error).strip().splitlines() or ["no reason given"])[0]
        raise RtmwEdgeError(
            f"The {target} converter failed with {type(error).__name__} ({reason}); nothing was written. "
            "Use the versions that rtmw-edge[export] was tested with."
        ) from error


def _check_mixed(table: Table, kind: Precision) -> None:
    """Refuse to call a bundle anything but mixed whose table leaves convolutions in float, and the other way round."""
    if table.floats and kind is not Precision.INT8_MIXED:
        raise BadInputError(
            f"{len(table.floats)} convolution(s) stay in float, the first '{table.floats[0]}', which only int8-mixed "
            "may have; export that."
        )
    if kind is Precision.INT8_MIXED and not table.floats:
        raise BadInputError("int8-mixed needs convolutions to leave in float; name them, or export int8.")


def _scales(
    network: Deployable,
    kind: Precision,
    grid: Grid,
    asked: ScaleSource,
    ready: Table | None,
    floats: Sequence[str],
    on_step: OnStep,
) -> Table:
    """The scales of an export: those of the table that is `ready`, else chosen as `asked`, less what stays in float."""
    from rtmw_edge.quantization.fake import check_table, weights_table

    if ready is None:
        _check_mixed(weights_table(network, grid).leaving_in_float(floats), kind)  # before the images are looked at
        ready = asked.choose(network, grid, on_step)
    else:
        check_table(network, ready)
    scales = ready.leaving_in_float(floats)
    _check_mixed(scales, kind)
    return scales


def _described(variant: Variant, converted: Converted, batch: int) -> dict[str, object]:
    """The manifest's fields that follow from the variant and from what was written."""
    width, height = variant.input_size
    image = {"name": INPUT, "dtype": converted.dtype, "layout": converted.layout, "color": "BGR"}
    outputs = {axis: {"name": converted.outputs[axis], "bins": bins} for axis, bins in variant.bins.items()}
    return {
        "variant": variant.name,
        "input": {"width": width, "height": height, "batch": batch, **image},
        "outputs": outputs,
        "split": SPLIT_RATIO,
        "z_range": variant.z_range,
    }


def int8_share(network: Deployable, counts: Mapping[str, int], stored: Mapping[str, Stored]) -> float:
    """The part of the convolutions' multiply-accumulates that a file does in int8, 0 to 1.

    `counts` says how many of the "total" are "int8"; when only some are, these are the ones whose weights are `stored`.
    """
    from rtmw_edge.models.macs import multiply_accumulates

    if counts["int8"] in (0, counts["total"]):
        return float(counts["int8"] > 0)
    of_module = multiply_accumulates(network, network.variant.input_size)
    paths = {id(module): path for path, module in network.named_modules()}
    macs = {name: of_module[paths[id(module.conv)]] for name, module in network.convolutions().items()}
    return sum(macs[name] for name in macs if f"{name}:weight" in stored) / sum(macs.values())


def _score(variant: Variant, weights: Path) -> dict[str, float] | None:
    """The calibrated score, which belongs to the embedded weights alone."""
    score = score_calibration(variant) if weights == embedded(variant) else None
    return None if score is None else {"a": score[0], "b": score[1]}
