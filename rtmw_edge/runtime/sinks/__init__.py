"""Where results go: a folder of pictures, files whose ending says what they hold, a window."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...errors import BadInputError
from ..frames import Sink, Source
from ..runner import Runner
from .arrays import Arrays
from .coco import CocoResults
from .document import Document
from .lines import JsonLines
from .pictures import PictureFolder
from .table import Table
from .video import CODECS, AnnotatedVideo
from .window import Window

__all__ = ["Document", "JsonLines", "PictureFolder", "Window", "is_drawn", "open_sink"]

COCO_ENDING = ".coco.json"
ENDINGS = (COCO_ENDING, ".json", ".jsonl", ".csv", ".npz", *CODECS)
"""Names with one of these are files; every other is a folder of pictures."""
OTHER_FILES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".txt", ".xml", ".html", ".zip")
"""What nobody means as the name of a folder."""


def is_drawn(target: Path) -> bool:
    """Whether the sink that a name means holds pictures, not numbers alone."""
    name = target.name.lower()
    return target.is_dir() or not name.endswith(ENDINGS) or name.endswith(tuple(CODECS))


def open_sink(target: Path, runner: Runner, sources: Sequence[Source]) -> Sink:
    """The sink that a name means: `.json`, `.jsonl`, `.csv`, `.npz` and `.coco.json` hold poses, `.mp4`, `.webm`,
    `.avi`, `.mkv` and `.mov` the annotated video, anything else is a folder of annotated pictures and videos.

    Nothing is written yet. Raises BadInputError for a place that holds something else.
    """
    name = target.name.lower()
    model, runtime = runner.model, runner.engine.runtime
    if not target.is_dir() and (name == "-" or name.endswith(OTHER_FILES)):
        raise BadInputError(
            f"--save {target} is no output that there is: name a folder for pictures, as out/, or a file that ends in "
            f"{', '.join(ENDINGS)}; --json - writes to standard output."
        )
    if target.is_dir() or not name.endswith(ENDINGS):
        return PictureFolder(target, sources)
    if name.endswith(COCO_ENDING):
        return CocoResults(target, sources)
    if name.endswith(".json"):
        return Document(target, model, runtime)
    if name.endswith(".jsonl"):
        return JsonLines(target, model, runtime)
    if name.endswith(".csv"):
        return Table(target, metres=model.z_range is not None)
    if name.endswith(".npz"):
        return Arrays(target)
    moving = [source.origin.name for source in sources if source.origin.moving]
    if len(moving) != 1 or len(sources) != 1:
        raise BadInputError(f"{target} holds one video: name one video or camera as the source, or save in a folder.")
    return AnnotatedVideo(target)
