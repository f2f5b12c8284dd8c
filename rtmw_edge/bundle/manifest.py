"""The manifest of a bundle: what the model is, what it takes and gives, and the size and sha256 of every file.

`manifest.json`, format version 1. Everything that a board needs to run the model is in it, nothing else may be in it,
and nothing is optional.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rtmw_edge.simcc import SPLIT_RATIO

from . import limits
from .errors import BundleError, Reason
from .gate_report import GateReport, read_gate_report
from .strict_json import Fields, is_name, parse, refuse

FORMAT = "rtmw-edge bundle"
VERSION = 1
MANIFEST_NAME = "manifest.json"
GOLDEN_ROLE = "golden"
DIGEST = "sha256"
"""The field that holds the manifest's own."""

ROLES: dict[str, tuple[str, ...]] = {
    "onnx": ("model",),
    "openvino": ("xml", "bin"),
    "tflite": ("model",),
    "ncnn": ("param", "bin"),
    "tensorrt": ("model",),
}
"""The model files of each target, by the part that they play."""

FLOAT = ("fp32", "fp16")
INT8 = ("int8", "int8-mixed")
PRECISIONS = (*FLOAT, "w8", "w8a16", *INT8)
AXES = ("x", "y", "z")


@dataclass(frozen=True)
class Input:
    """The graph's one input: `batch` BGR crops of `width` x `height` pixels, 0..255, as `dtype` in `layout`."""

    width: int
    height: int
    batch: int
    name: str
    dtype: str
    layout: str
    color: str = "BGR"

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the tensor, in the order of its layout."""
        extents = {"N": self.batch, "H": self.height, "W": self.width, "C": len(self.color)}
        return tuple(extents[axis] for axis in self.layout)


@dataclass(frozen=True)
class Output:
    """One axis of logits, (batch, 133, bins) float32: the tensor's name in the graph, and how many bins it has."""

    name: str
    bins: int


@dataclass(frozen=True)
class Score:
    """The calibrated score in 0..1 of this variant: 1 / (1 + exp(-(a * score + b)))."""

    a: float
    b: float


@dataclass(frozen=True)
class Tolerance:
    """How far a machine may be from the golden outputs; see `golden.Agreement` for the two figures."""

    relative_rms: float
    keypoint_px_p99: float


@dataclass(frozen=True)
class Convolutions:
    """Convolutions of the network, and how many of them the file computes in int8.

    `int8_macs` is the part of all convolutions' multiply-accumulates that these do, 0 to 1.
    """

    total: int
    int8: int
    int8_macs: float


@dataclass(frozen=True)
class FileEntry:
    """One file of the bundle: the part that it plays, its name, its size in bytes and its sha256 in hexadecimal."""

    role: str
    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a bundle is; `outputs` has the axes in the order x, y[, z], and `z_range` is in metres (3D only).

    `scales` says in words what the scales of integers are from, None for floating point. `gates` is what the gate that
    was applied to it said; None where none was.
    """

    variant: str
    target: str
    precision: str
    grid: str | None
    input: Input
    outputs: dict[str, Output]
    split: float
    z_range: float | None
    score: Score | None
    files: tuple[FileEntry, ...]
    tolerance: Tolerance
    convolutions: Convolutions
    tools: dict[str, str]
    weights_sha256: str
    table_sha256: str | None
    created_by: str
    scales: str | None
    gates: GateReport | None

    @property
    def input_size(self) -> tuple[int, int]:
        """Width and height of the crop, pixels."""
        return self.input.width, self.input.height

    @property
    def bins(self) -> tuple[int, ...]:
        """Bins of each axis, in the order x, y[, z]."""
        return tuple(output.bins for output in self.outputs.values())

    def file(self, role: str) -> FileEntry:
        """The file that plays `role`. Raises KeyError when this target has no such part."""
        for entry in self.files:
            if entry.role == role:
                return entry
        raise KeyError(role)

    def to_json(self) -> bytes:
        """The bytes of `manifest.json`, with a sha256 of all that it says."""
        return signed({"format": FORMAT, "version": VERSION, **dataclasses.asdict(self)})

    @classmethod
    def from_json(cls, text: bytes, source: str) -> Manifest:
        """Read the bytes of a `manifest.json`; `source` names the bundle in the error.

        Raises BundleError for a newer format, and for anything in it that is not exactly as `to_json` writes it.
        """
        where = f"The manifest of {source}"
        data = parse(text, where)
        check_version(data, source)
        fields = Fields(data, where)
        digest = fields.sha256(DIGEST)
        manifest = _from_fields(fields, where)
        if digest != _digest(data):
            raise BundleError(
                Reason.WRONG_HASH,
                f"{where} was changed after it was written: its {DIGEST} is another's; get or export the bundle again.",
            )
        return manifest


def signed(data: Mapping[str, Any]) -> bytes:
    """JSON that says `data`, and the sha256 of what it says."""
    return (json.dumps({**data, DIGEST: _digest(data)}, indent=1, allow_nan=False) + "\n").encode()


def _digest(data: Mapping[str, Any]) -> str:
    """The sha256 of a manifest's JSON without the field that holds it."""
    said = {name: value for name, value in data.items() if name != DIGEST}
    return hashlib.sha256(json.dumps(said, sort_keys=True, allow_nan=False).encode()).hexdigest()


def check_version(data: dict[str, Any], source: str) -> None:
    """Tell another program's manifest, and a newer one of ours, from one that this version reads."""
    if data.get("format") != FORMAT:
        raise BundleError(
            Reason.NOT_A_BUNDLE,
            f'{source} is no rtmw-edge bundle: its {MANIFEST_NAME} does not say "format": "{FORMAT}"; '
            "make one with rtmw-edge export.",
        )
    version = data.get("version")
    if type(version) is not int or version < 1:
        refuse(f"The manifest of {source} has no valid format version; export the bundle again.")
    if version > VERSION:
        raise BundleError(
            Reason.NEWER_FORMAT,
            f"{source} was written by a newer rtmw-edge (format {version}); this one reads up to {VERSION}. "
            "Upgrade with: pip install --upgrade rtmw-edge.",
        )


def _from_fields(fields: Fields, where: str) -> Manifest:
    fields.text("format")
    fields.integer("version", 1, VERSION)
    target = fields.text("target", ROLES)
    size = fields.fields("input")
    manifest = Manifest(
        variant=fields.name("variant"),
        target=target,
        precision=fields.text("precision", PRECISIONS),
        grid=None if fields.is_null("grid") else fields.name("grid"),
        input=Input(
            width=size.integer("width", 32, limits.MAX_SIDE),
            height=size.integer("height", 32, limits.MAX_SIDE),
            batch=size.integer("batch", 1, limits.MAX_BATCH),
            name=size.text("name"),
            dtype=size.text("dtype", ("uint8", "float32")),
            layout=size.text("layout", ("NHWC", "NCHW", "CHW")),
            color=size.text("color", ("BGR",)),
        ),
        outputs=_outputs(fields.fields("outputs"), where),
        split=fields.number("split", 1.0, 8.0),
        z_range=None if fields.is_null("z_range") else fields.number("z_range", 1e-3, 1e3),
        score=None if fields.is_null("score") else _score(fields.fields("score")),
        files=_files(fields.entries("files", 1, limits.MAX_FILES), target, where),
        tolerance=_tolerance(fields.fields("tolerance")),
        convolutions=_convolutions(fields.fields("convolutions"), where),
        tools=_tools(fields.fields("tools"), where),
        weights_sha256=fields.sha256("weights_sha256"),
        table_sha256=None if fields.is_null("table_sha256") else fields.sha256("table_sha256"),
        created_by=fields.text("created_by"),
        scales=None if fields.is_null("scales") else fields.text("scales"),
        gates=None if fields.is_null("gates") else read_gate_report(fields.fields("gates"), where),
    )
    size.finish()
    fields.finish()
    _check_consistent(manifest, where)
    return manifest


def _outputs(fields: Fields, where: str) -> dict[str, Output]:
    if tuple(fields.names()) not in (AXES[:2], AXES):
        refuse(f"{where} must have the outputs x, y or x, y, z in this order; export the bundle again.")
    outputs = {}
    for axis in fields.names():
        output = fields.fields(axis)
        outputs[axis] = Output(name=output.text("name"), bins=output.integer("bins", 1, limits.MAX_BINS))
        output.finish()
    return outputs


def _score(fields: Fields) -> Score:
    score = Score(a=fields.number("a", -1e6, 1e6), b=fields.number("b", -1e6, 1e6))
    fields.finish()
    return score


def _tolerance(fields: Fields) -> Tolerance:
    tolerance = Tolerance(
        relative_rms=fields.number("relative_rms", 0.0, 1.0),
        keypoint_px_p99=fields.number("keypoint_px_p99", 0.0, 64.0),
    )
    fields.finish()
    return tolerance


def _convolutions(fields: Fields, where: str) -> Convolutions:
    most = limits.MAX_CONVOLUTIONS
    counts = Convolutions(
        total=fields.integer("total", 0, most),
        int8=fields.integer("int8", 0, most),
        int8_macs=fields.number("int8_macs", 0.0, 1.0),
    )
    if counts.int8 > counts.total:
        refuse(f"{where} claims {counts.int8} int8 convolutions of {counts.total}; export the bundle again.")
    if (counts.int8_macs == 0.0) != (counts.int8 == 0):
        refuse(f"{where} claims int8 arithmetic for {counts.int8} convolutions; export the bundle again.")
    fields.finish()
    return counts


def _tools(fields: Fields, where: str) -> dict[str, str]:
    names = fields.names()
    if len(names) > limits.MAX_TOOLS or not all(is_name(name) for name in names):
        refuse(f"{where} must have at most {limits.MAX_TOOLS} tools with plain names; export the bundle again.")
    return {name: fields.text(name) for name in names}


def _files(entries: list[Fields], target: str, where: str) -> tuple[FileEntry, ...]:
    files = []
    for entry in entries:
        files.append(
            FileEntry(
                role=entry.name("role"),
                path=entry.name("path"),
                size=entry.integer("size", 1, limits.MAX_BUNDLE_BYTES),
                sha256=entry.sha256("sha256"),
            )
        )
        entry.finish()
    expected = sorted((*ROLES[target], GOLDEN_ROLE))
    if sorted(file.role for file in files) != expected:
        refuse(f"{where} must list exactly the files {', '.join(expected)} of {target} bundles; export it again.")
    paths = {file.path for file in files}
    if len(paths) != len(files) or MANIFEST_NAME in paths:
        refuse(f"{where} lists one file twice, or itself; export the bundle again.")
    if sum(file.size for file in files) > limits.MAX_BUNDLE_BYTES:
        raise BundleError(
            Reason.TOO_LARGE,
            f"{where} promises more than {limits.MAX_BUNDLE_BYTES} bytes of files, which is more than any RTMW needs; "
            "get the bundle from somewhere that you trust.",
        )
    return tuple(files)


def _check_consistent(manifest: Manifest, where: str) -> None:
    """Refuse what is in range field by field and makes no sense together."""
    if manifest.split != SPLIT_RATIO:
        refuse(f"{where} has {manifest.split:g} bins per pixel, and {SPLIT_RATIO} alone are decoded; export it again.")
    for axis, side in (("x", manifest.input.width), ("y", manifest.input.height)):
        bins = manifest.outputs[axis].bins
        if bins != round(side * manifest.split):
            refuse(f"{where} has {bins} {axis} bins for {side} pixels at split {manifest.split:g}; export it again.")
    if ("z" in manifest.outputs) != (manifest.z_range is not None):
        refuse(f"{where} must have z_range exactly when it has a z output; export the bundle again.")
    precision, count = manifest.precision, manifest.convolutions.int8
    if (manifest.grid is None) != (precision in FLOAT):
        refuse(f"{where} has the grid {manifest.grid} in {precision}: integers alone have one; export it again.")
    if precision in FLOAT and (manifest.table_sha256 or manifest.scales):
        refuse(f"{where} claims scales of integers in {precision}, which has none; export the bundle again.")
    if precision not in FLOAT and not manifest.scales:
        refuse(f"{where} does not say what its scales of integers are from; export the bundle again.")
    if (count and precision not in INT8) or (not count and precision == "int8"):
        refuse(f"{where} claims {count} int8 convolutions in {precision}; export the bundle again.")
