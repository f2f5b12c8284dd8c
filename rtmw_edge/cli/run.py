"""`rtmw-edge run`: poses of images, videos and cameras; drawn, written, shown and served."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import BundleName, Device, Threads

if TYPE_CHECKING:
    from ..runtime.detectors import OnnxDetector
    from ..runtime.frame_runner import View
    from ..runtime.frames import Source

Sources = Annotated[
    list[str] | None,
    typer.Argument(help="Images, videos, folders, patterns, a camera (0 or /dev/video0), an address, or - for stdin."),
]
Save = Annotated[
    list[Path] | None,
    typer.Option(
        help="A folder for annotated pictures and videos, or a file by its ending: .mp4, .webm, .avi, .jsonl, .json, "
        ".csv, .npz, .coco.json. May be repeated."
    ),
]

DRAWN_FROM = 0.1
"""Confidence in 0..1 from which a keypoint is drawn."""
NEAREST_M, FARTHEST_M = 0.1, 1000.0
"""Where somebody's hips may be before a camera."""


def run(
    bundle: BundleName = "builtin",
    sources: Sources = None,
    source: Annotated[list[str] | None, typer.Option(help="A source, where BUNDLE is left out.")] = None,
    boxes: Annotated[Path | None, typer.Option(help='JSON: {"a.jpg": [[x1, y1, x2, y2], ...]}, or COCO.')] = None,
    detector: Annotated[
        str | None,
        typer.Option(
            help="Who finds the people: builtin, a detector that was fetched (yolox-tiny, say), or none: the whole "
            "image is one person.",
            show_default="builtin",
        ),
    ] = None,
    detector_file: Annotated[
        Path | None, typer.Option(help="The ONNX file of a detector: RTMDet or YOLOX, as their authors export them.")
    ] = None,
    detector_score: Annotated[
        float | None, typer.Option(help="Take detections of at least this score in 0..1.", show_default="0.3")
    ] = None,
    detector_device: Annotated[
        str | None,
        typer.Option(
            help="Device of the detector: cpu, cuda or tensorrt.", show_default="--device; cpu for the builtin one"
        ),
    ] = None,
    json_file: Annotated[
        str | None, typer.Option("--json", help="Write all poses to this file; - for JSON lines on stdout.")
    ] = None,
    save: Save = None,
    show: Annotated[bool, typer.Option("--show", help="Show a window.")] = False,
    serve: Annotated[str | None, typer.Option(help="Serve a page on HOST:PORT; a port alone is loopback.")] = None,
    device: Device = "cpu",
    threads: Threads = None,
    streams: Annotated[
        int | None,
        typer.Option(
            help="People of a frame who run side by side, each on a share of the threads.",
            show_default="2 where model and threads allow",
        ),
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Draw keypoints of at least this score in 0..1.", show_default=f"{DRAWN_FROM}")
    ] = None,
    subbin: Annotated[bool, typer.Option("--subbin", help="Refine coordinates between half pixels.")] = False,
    detect_every: Annotated[
        int | None,
        typer.Option(
            help="Look for people in every so-many-th frame of a video, and follow them between.", show_default="10"
        ),
    ] = None,
    smooth: Annotated[bool, typer.Option("--smooth/--no-smooth", help="Smooth keypoints of moving sources.")] = True,
    raw: Annotated[str | None, typer.Option(help="Format of frames on stdin: 640x480@30:bgr24, say.")] = None,
    camera: Annotated[str | None, typer.Option(help="Ask the camera for WxH@FPS.")] = None,
    live: Annotated[
        bool | None, typer.Option("--live/--no-live", help="Whether frames of an address or stdin may be dropped.")
    ] = None,
    draw_boxes: Annotated[bool, typer.Option("--draw-boxes", help="Draw boxes and each person's confidence.")] = False,
    draw_ids: Annotated[bool, typer.Option("--draw-ids", help="Draw the people's numbers.")] = False,
    view3d: Annotated[
        str | None, typer.Option(help="3D beside the picture: rotate, fixed or none.", show_default="rotate")
    ] = None,
    intrinsics: Annotated[
        str | None, typer.Option(help="FX,FY,CX,CY in pixels, for metres of 3D; RTMW3D's assumption when left out.")
    ] = None,
    depth: Annotated[float | None, typer.Option(help="Metres to the hips, for 3D; 5.14 when left out.")] = None,
) -> None:
    """Find whole-body poses in images, videos and cameras.

    Without --detector or --boxes the builtin detector finds the people; in videos they are then followed.
    """
    from dataclasses import replace

    from ..errors import BadInputError, unknown
    from ..runtime import load
    from ..runtime.boxes import BoxFile
    from ..runtime.detection import listed_in, looking_with
    from ..runtime.frame_runner import FrameRunner
    from ..runtime.painting import VIEWS, Painter
    from ..runtime.serve import parse_address
    from ..runtime.sinks import is_drawn
    from ..runtime.smoothing import OneEuroOptions
    from ..runtime.tracking import TrackingOptions
    from .run_job import RunJob

    drawn_from = DRAWN_FROM if threshold is None else threshold
    if not 0 <= drawn_from <= 1:
        raise BadInputError(f"The threshold {drawn_from:g} is not a score in 0..1: pass 0.3, say.")
    undrawn = "is for pictures, and none are drawn: add --save DIR, --show or --serve, or leave it out."
    is_seen = show or serve is not None or any(map(is_drawn, save or ()))
    if not is_seen:
        _refuse({"--threshold": threshold, "--draw-boxes": draw_boxes, "--draw-ids": draw_ids}, undrawn)
    if view3d not in (None, *VIEWS):
        raise unknown("3D view", view3d, VIEWS)
    # What a file lists for a frame is never passed over, and nobody else is there.
    tracking = TrackingOptions(detect_every=1, misses=0, same_oks=1, shrinks=1) if boxes else TrackingOptions()
    if detect_every is not None:
        tracking = replace(tracking, detect_every=detect_every)
    finder = _finder(detector, detector_file, boxes)
    if finder is None and not (detector_score is detector_device is detect_every is None):
        instead = "--boxes" if boxes else "--detector none"
        raise BadInputError(f"There is no detector to set up: leave out {instead}, or the detector's options.")
    names = [*(sources or []), *(source or [])]
    if not names and Path(bundle).is_file() and Path(bundle).suffix.lower() != ".zip":
        raise BadInputError(f"'{bundle}' is no bundle. To run the builtin model on it: rtmw-edge run builtin {bundle}")
    opened = _sources(names, raw, camera, live)
    if not any(one.origin.moving for one in opened):
        moving = {"--detect-every": detect_every, "--draw-ids": draw_ids}
        _refuse(moving, "is for videos and cameras, and every source is an image: leave it out.")
    box_file = BoxFile(boxes) if boxes else None
    if box_file:
        box_file.check_matches([one.origin.name for one in opened])
    view = _view(intrinsics, depth)
    address = None if serve is None else parse_address(serve)
    look = listed_in(box_file) if box_file else None
    if finder is not None:
        found_by = _open_detector(finder, detector_device, device, threads, detector_score)
        typer.echo(f"detector: {found_by.about}", err=json_file == "-")
        look = looking_with(found_by)
    # Reading and output want the cores too.
    with load(bundle, device=device, threads=threads, subbin=subbin, spin=False, streams=streams) as runner:
        process = FrameRunner(
            runner,
            look,
            tracking=tracking,
            smoothing=OneEuroOptions() if smooth else None,
            view=view,
        )
        in_depth = intrinsics is not None or depth is not None or view3d not in (None, "none")
        if runner.model.z_range is None and in_depth:
            raise BadInputError(f"{runner.model.variant} has no depth: leave out --intrinsics, --depth and --view3d.")
        if not is_seen:
            _refuse({"--view3d": view3d}, undrawn)
        paint = Painter(drawn_from, boxes=draw_boxes, ids=draw_ids, view3d=view3d or "rotate")
        job = RunJob(runner, opened, process, paint, err=json_file == "-")
        job.run(save or [], json_file, show, address, box_file)


def _refuse(options: Mapping[str, object], why: str) -> None:
    """Raise BadInputError for the first of these options that is given, where none is of use."""
    from ..errors import BadInputError

    for name, value in options.items():
        if value is not None and value is not False:
            raise BadInputError(f"{name} {why}")


def _finder(detector: str | None, file: Path | None, boxes: Path | None) -> str | Path | None:
    """What finds the people: a detector's name or file; None where nothing does."""
    from ..errors import BadInputError
    from ..runtime.loading import BUILTIN

    if detector is not None and file is not None:
        raise BadInputError(f"--detector {detector} and --detector-file {file} contradict: leave one of them out.")
    if detector is file is boxes is None:
        return BUILTIN
    finder = file if detector is None else detector
    if finder == "none":
        return None
    if finder is not None and boxes is not None:
        raise BadInputError("People come from --boxes or from a detector, not from both: leave one of them out.")
    return finder


def _open_detector(
    finder: str | Path, device: str | None, pose_device: str, threads: int | None, score: float | None
) -> OnnxDetector:
    """The detector in a file, the builtin one, or one of a name that was fetched."""
    from ..models.detectors import cached_detector, detector_named
    from ..runtime.detectors import SCORE, open_detector
    from ..runtime.loading import BUILTIN

    score = SCORE if score is None else score
    if finder == BUILTIN:
        # So small that no device gains from it, and poses run on devices that detectors have not.
        return open_detector(BUILTIN, device or "cpu", threads, score=score)
    size = None
    if isinstance(finder, str):
        known = detector_named(finder, BUILTIN, "none")
        finder, size = cached_detector(known), known.input_size
    return open_detector(finder, device or pose_device, threads, score=score, size=size)


def _sources(names: list[str], raw: str | None, camera: str | None, live: bool | None) -> list[Source]:
    """The sources that are named, with the formats that --raw and --camera ask for."""
    from ..errors import BadInputError
    from ..runtime.sources import PictureFormat, open_sources

    picture, wanted = (None if text is None else PictureFormat.parse(text) for text in (raw, camera))
    if camera and ":" in camera:
        raise BadInputError(
            f"--camera {camera} names a pixel format, which the camera's driver chooses: write WxH@FPS."
        )
    return open_sources(names, raw=picture, camera=wanted, live=live)


def _view(intrinsics: str | None, depth: float | None) -> View:
    """The camera of 3D as it was given; BadInputError for what is none."""
    import numpy as np

    from ..camera import ASSUMED_DEPTH
    from ..errors import BadInputError
    from ..runtime.frame_runner import View

    if depth is not None and not NEAREST_M <= depth <= FARTHEST_M:
        raise BadInputError(
            f"The depth {depth:g} is no distance in metres of somebody before a camera: pass {NEAREST_M:g} to "
            f"{FARTHEST_M:g}."
        )
    camera = None
    if intrinsics is not None:
        try:
            fx, fy, cx, cy = (float(number) for number in intrinsics.split(","))
        except ValueError:
            raise BadInputError(f"Cannot read the intrinsics '{intrinsics}': write FX,FY,CX,CY in pixels.") from None
        camera = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
        if not (np.isfinite(camera).all() and fx > 0 and fy > 0):
            raise BadInputError(f"The intrinsics '{intrinsics}' are no camera: FX and FY are positive pixels.")
    return View(camera, ASSUMED_DEPTH if depth is None else depth)
