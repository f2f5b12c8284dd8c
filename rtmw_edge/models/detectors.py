"""Person detectors that other people published as ONNX: where they are, and what their files must hash to.

Their authors publish no digests (the eight digits in OpenMMLab's names belong to the checkpoint, not to the ONNX file
or its zip). Those here are of the ONNX file itself, as projects that pin it have recorded it: from three or more for
Megvii's release 0.1.1rc0 and for Human-Art's nano, tiny and m, from two for Human-Art's s and rtmdet-nano, and from one
that downloaded it twice for rtmdet-m. None could be downloaded and compared where this was written.

Sources: YOLOX, demo/ONNXRuntime/README.md; rtmlib, README.md (Model Zoo); mmpose, projects/rtmpose/README.md.
"""

from __future__ import annotations

import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path

from ..errors import BadInputError, VerificationError, unknown
from ..files import BROKEN_ZIP, CHUNK_BYTES, atomic_write, cache_dir
from .download import Fetched, Progress, check_digest, checked_digest, obtain

MEGVII = "https://github.com/Megvii-BaseDetection/YOLOX/releases/download/0.1.1rc0/"
OPENMMLAB = "https://download.openmmlab.com/mmpose/v1/projects/rtmposev1/onnx_sdk/"
LARGEST = 1 << 30
"""Bytes of an unpacked network, beyond which a zip is not what it should be."""


@dataclass(frozen=True)
class PublishedDetector:
    """A detector: its name here, its address, the SHA-256 of its ONNX file, its (width, height) in pixels."""

    name: str
    url: str
    sha256: str
    input_size: tuple[int, int]
    trained_on: str

    @property
    def file_name(self) -> str:
        """The name of the ONNX file in the cache."""
        return self.url.rsplit("/", 1)[-1].removesuffix(".zip").removesuffix(".onnx") + ".onnx"


def _megvii(size: str, pixels: int, sha256: str) -> PublishedDetector:
    return PublishedDetector(f"yolox-{size}", f"{MEGVII}yolox_{size}.onnx", sha256, (pixels, pixels), "COCO")


def _openmmlab(name: str, file: str, pixels: int, sha256: str, trained_on: str) -> PublishedDetector:
    return PublishedDetector(name, f"{OPENMMLAB}{file}.zip", sha256, (pixels, pixels), trained_on)


_OBJECTS, _ART = "COCO and Objects365", "COCO and Human-Art"
_ALL = (
    _openmmlab(
        "rtmdet-nano", "rtmdet_nano_8xb32-100e_coco-obj365-person-05d8511e", 320,
        "8297e829ccc5590c8e2d32d5a211f322a0585fb7467eec85eb12c9525b0b95d6", _OBJECTS,
    ),
    _openmmlab(
        "rtmdet-m", "rtmdet_m_8xb32-100e_coco-obj365-person-235e8209", 640,
        "4f4d7e07350b1753299111d1ae500fd64447a5b0e38e4bacbefab6573c742d30", _OBJECTS,
    ),
    _megvii("nano", 416, "c789161ed43c8269fcd4e67c67eeeb4e80c622da2eb296a20bc6007bd18a0b7d"),
    _megvii("tiny", 416, "427cc366d34e27ff7a03e2899b5e3671425c262ea2291f88bb942bc1cc70b0f7"),
    _megvii("s", 640, "c5c2d13e59ae883e6af3b45daea64af4833a4951c92d116ec270d9ddbe998063"),
    _megvii("m", 640, "21ff6cfdeb53b013bac2249599e55f00bff3cfdfdab37ed7a4620818c1d15b3f"),
    _openmmlab(
        "yolox-nano-humanart", "yolox_nano_8xb8-300e_humanart-40f6f0d0", 416,
        "1450966de24902b18aada1a78913d7efd8fc8dcd51bd4d0d5591476bd4a38821", _ART,
    ),
    _openmmlab(
        "yolox-tiny-humanart", "yolox_tiny_8xb8-300e_humanart-6f3252f9", 416,
        "ceb11c07298f95c50d7c5abeb906d03340c85f23aa79e3e66966e7fb6c307250", _ART,
    ),
    _openmmlab(
        "yolox-s-humanart", "yolox_s_8xb8-300e_humanart-3ef259a7", 640,
        "332e09ea9696e3401049b6c5314851db020b6430f85da159e65f37034ab3aee8", _ART,
    ),
    _openmmlab(
        "yolox-m-humanart", "yolox_m_8xb8-300e_humanart-c2c7a14a", 640,
        "3dea6513388889f0fff4b77bf7a26013600321b9eb9ceb0e9a400a82572f5f23", _ART,
    ),
)  # fmt: skip

DETECTORS: dict[str, PublishedDetector] = {detector.name: detector for detector in _ALL}


def detector_named(name: str, *others: str) -> PublishedDetector:
    """The detector called `name`. Raises BadInputError with the nearest name, or of `others`, when there is none."""
    if name not in DETECTORS:
        raise unknown("detector", name, [*others, *DETECTORS])
    return DETECTORS[name]


def cached_detector(detector: PublishedDetector) -> Path:
    """Its file in the cache. Raises BadInputError that says how to get it when it is not there."""
    path = cache_dir() / detector.file_name
    if not path.is_file():
        raise BadInputError(
            f"The detector {detector.name} is not here: run 'rtmw-edge fetch {detector.name}', or pass "
            "--detector-file FILE."
        )
    return path


def fetch_detector(
    detector: PublishedDetector,
    *,
    url: str | None = None,
    file: Path | None = None,
    cache: Path | None = None,
    sha256: str | None = None,
    on_progress: Progress = lambda done, total: None,
) -> Fetched:
    """Download a detector (from `url` if given), or take a local `file`; either may be its zip or the ONNX file itself.

    Only the ONNX file is kept, whose SHA-256 must be `sha256` (64 hexadecimal digits) or else the recorded one. Raises
    BadInputError when it cannot be reached (what has come is kept for the next run), VerificationError when it is
    another file.
    """
    expected = detector.sha256 if sha256 is None else checked_digest(sha256)
    path = (cache or cache_dir()) / detector.file_name

    def check(source: Path) -> str:
        return check_digest(source, path.name, expected)

    def install(source: Path) -> str:
        with atomic_write(path) as temporary:
            _unpack(source, temporary, path.name)
            return check(temporary)

    return Fetched(path, obtain(path, url or detector.url, file, check, install, on_progress), expected)


def _unpack(source: Path, target: Path, name: str) -> None:
    """Write the one ONNX file of a zip to `target`, or `source` itself when it is no zip."""
    if not zipfile.is_zipfile(source):
        shutil.copyfile(source, target)
        return
    try:
        with zipfile.ZipFile(source) as archive:
            inside = [one for one in archive.infolist() if one.filename.endswith(".onnx")]
            if len(inside) != 1 or inside[0].file_size > LARGEST:
                raise VerificationError(f"The zip of {name} holds {len(inside)} ONNX files, not one.")
            with archive.open(inside[0]) as stream, target.open("wb") as out:
                shutil.copyfileobj(stream, out, CHUNK_BYTES)
    except BROKEN_ZIP as error:
        raise VerificationError(f"The zip of {name} is damaged ({error}).") from error
