"""Where frames come from: image files, folders, patterns, videos, cameras, addresses and raw frames on stdin.

>>> for source in open_sources(["photos/", "clip.mp4"]):        # doctest: +SKIP
...     for frame in source:
...         frame.name, frame.image.shape
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from ...errors import BadInputError, unknown
from ..frames import Source
from .addresses import without_password
from .capture import is_device
from .images import IMAGE_SUFFIXES, ImageFile, expand, files_of, find_images
from .raw import PictureFormat, RawFrames
from .streams import LiveStream
from .video import STREAM_SUFFIXES, VIDEO_SUFFIXES, VideoFile

__all__ = ["IMAGE_SUFFIXES", "VIDEO_SUFFIXES", "PictureFormat", "find_images", "open_sources"]

STDIN, STDIN_FILE = "-", 0
SCHEMES = ("rtsp", "rtsps", "rtmp", "http", "https", "tcp", "udp", "srt")


def open_sources(
    names: Iterable[str | Path],
    *,
    raw: PictureFormat | None = None,
    camera: PictureFormat | None = None,
    live: bool | None = None,
) -> list[Source]:
    """The sources that `names` mean, in their order; nothing is opened before it is iterated.

    A name is an image, a video, a folder of those (not deeper), a pattern ("frames/*.png"), a camera (its number or
    /dev path), an address (rtsp://, http://, ...) or "-", frames on stdin of the format `raw`. `camera` is asked of a
    camera. `live` says whether frames of an address or of stdin may be dropped; None: of an address yes, unless it
    names a video file, of stdin no. Raises BadInputError for what means nothing, and for a camera among other sources.
    """
    if isinstance(names, (str, Path, int)):
        raise BadInputError(f"Sources are a list of names, and this is one: pass [{str(names)!r}].")
    texts = [str(name) for name in names]  # once: Path.glob gives its files a single time
    if not texts:
        raise BadInputError(
            "There is nothing to run on: name an image, a folder, a video, a camera (0) or an address (rtsp://...)."
        )
    if "" in texts:
        raise BadInputError("A source is empty text (an unset variable of the shell?): name what to run on.")
    found: dict[str, Source] = {}
    kinds = {name: _kind(name) for name in texts}
    for name, kind in kinds.items():
        sources = _files(name) if kind == "file" else [_special(name, kind, raw, camera, live)]
        if kind == "address" and sources[0].origin.name in found:
            raise BadInputError(
                f"Two sources are {sources[0].origin.name} but for their passwords or keys, which are not shown: run "
                "them one by one."
            )
        found.update({source.origin.name: source for source in sources if source.origin.name not in found})
    opened = list(found.values())
    endless = [source.origin.name for source in opened if source.origin.live]
    if endless and len(opened) > 1:
        raise BadInputError(
            f"{endless[0]} has no end, so nothing can run beside it: run the other sources by themselves."
        )
    if raw is not None and "stdin" not in kinds.values():
        raise BadInputError("--raw tells the format of frames on stdin: name - as the source.")
    if camera is not None and "camera" not in kinds.values():
        raise BadInputError("--camera asks a camera for a format, and no source is a camera: leave it out.")
    if live is not None and not {"address", "stdin"} & set(kinds.values()):
        raise BadInputError("--live and --no-live are about an address or stdin, and no source is one: leave them out.")
    return opened


def _kind(name: str) -> str:
    """ "stdin", "address", "camera" or "file": what a name means."""
    if name == STDIN:
        return "stdin"
    if "://" in name:
        return "address"
    return "camera" if is_device(name) or (name.isdecimal() and not Path(name).exists()) else "file"


def _special(
    name: str, kind: str, raw: PictureFormat | None, camera: PictureFormat | None, live: bool | None
) -> Source:
    if kind == "stdin":
        if raw is None:
            raise BadInputError("Frames on stdin need their format: add --raw 640x480@30:bgr24, say.")
        return RawFrames(STDIN_FILE, raw, live=bool(live))
    if kind == "camera":
        return LiveStream(int(name) if name.isdecimal() else name, camera)
    try:
        address = urlsplit(name)
    except ValueError as error:
        raise BadInputError(
            f"Cannot read the address {without_password(name)} ({error}): check its brackets."
        ) from None
    if address.scheme not in SCHEMES:
        raise unknown("kind of address", f"{address.scheme}://", [f"{scheme}://" for scheme in SCHEMES])
    is_file = PurePosixPath(address.path).suffix.lower() in VIDEO_SUFFIXES
    ends = is_file if live is None else not live
    return VideoFile(name) if ends else LiveStream(name, None)


def _files(name: str) -> list[Source]:
    path, videos = Path(name), (*VIDEO_SUFFIXES, *STREAM_SUFFIXES)
    paths = files_of(path, (*IMAGE_SUFFIXES, *videos), "image or video") if path.is_dir() else expand(name)
    return [VideoFile(str(path)) if path.suffix.lower() in videos else ImageFile(path) for path in paths]
