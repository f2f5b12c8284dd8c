"""Train the builtin person detector on rendered scenes, measure it, ship it, and write it for other runtimes.

    python tools/train_detector.py train --out runs/detector --scenes 8000     # goes on where it was stopped
    python tools/train_detector.py evaluate                                    # the detector in the package, or a FILE
    python tools/train_detector.py release --out runs/detector --training "how it was trained"
    python tools/train_detector.py export --target ncnn --out detector-ncnn    # of the detector in the package

`--photos ANNOTATIONS IMAGES` measures on photographs too, with COCO-WholeBody's annotations.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
from dataclasses import asdict
from pathlib import Path
from string import Template

import onnx
import torch
from rtmw_edge.targets.person_detector import FORMATS, DeployableDetector, export_detector, onnx_model, read_detector

from rtmw_edge.evaluation.detection import DetectionScores, evaluate_detector
from rtmw_edge.files import atomic_write
from rtmw_edge.models.person_detector import TEACHER, WIDTH
from rtmw_edge.runtime.detectors import BUILTIN_FILE, SCORE, open_detector
from rtmw_edge.runtime.detectors.detector import NAME_KEY, SCORES_KEY
from rtmw_edge.training.person_detector import judging
from rtmw_edge.training.person_detector.loop import INPUT, LOWEST_SCORE, Options, shift_scores, train, trained
from rtmw_edge.training.person_detector.scenes import Pool

PHOTOS = (Path("../shared/samples/coco/test_coco_wholebody.json"), Path("../shared/samples/coco"))

NAME = "builtin person detector"
CARD = Template("""# Builtin person detector: model card

Finds people for `rtmw-edge run` where nothing else is asked for. It needs nothing but ONNX Runtime; for work on photographs
fetch a detector that has seen some (`rtmw-edge fetch yolox-tiny`, see docs/running.md).

| | |
|---|---|
| architecture | CSPNeXt (the backbone of $teacher), PAFPN of $width channels, one box a cell at strides 8, 16 and 32 (`rtmw_edge/models/person_detector.py`); $parameters M parameters, $gmac GMAC at $size |
| begins with | the backbone of the embedded $teacher, which learnt poses of rendered people |
| data | rendered scenes only (`rtmw_edge/data/synthetic`, split `train`): $scenes scenes, put together anew for every step; no photograph, no annotation of any data set |
| training | $training |
| scores | shifted so that what the network gave $unsure is $score: there F2, which counts recall twice, is highest on $setting mixed scenes of the split `calibration` |
| file | ONNX, fp16 weights, $megabytes MB; Apache-2.0 |
| form | RTMDet's before suppression: normalized BGR (1,3,H,W) in, boxes (1,A,4) and scores (1,A,1) out |

Measured on this file by `python tools/train_detector.py evaluate`. Recall and precision of detections of a score of at least
$score, right from an IoU of 0.5 on; AP50 over all scores.

| pictures | people | recall | precision | AP50 |
|---|---|---|---|---|
$rows

Scenes are of the renderer's split `val`, 640x480, which shares no person and no background with what it learnt from; people of
whom less than 8 % of the box shows are not counted. The mixed ones have crowds of five to eight people (one in five) and nobody
(one in ten). The photographs are four of COCO's, with annotators' boxes.

## What it cannot do
- It has never seen a photograph, and its training was short. The figures on photographs above are of four pictures: an impression, no measurement.
- People who are small in the picture (under a tenth of its height), mostly hidden, or close together are often missed.
- It knows no animals, statues, dolls or pictures of people; what looks like a figure may be taken for one.
- No claim is made about any group of people. Do not use it where an error harms somebody.
""")


def measured(file: Path, photos: tuple[Path, Path] | None) -> dict[str, DetectionScores]:
    """The detector of a file on all that it is judged on, printed as it comes."""
    detector = open_detector(file, threads=1, score=LOWEST_SCORE)
    sets = {
        f"{judging.SCENES} rendered scenes of one to four people": judging.scenes(judging.SCENES),
        f"{judging.MIXED} mixed rendered scenes": judging.scenes(judging.MIXED, mixed=True),
    }
    if photos is not None:
        sets[f"photographs, people taller than {judging.TALL} px"] = judging.photographs(*photos, taller=judging.TALL)
        sets["photographs, all people"] = judging.photographs(*photos)
    scores = {}
    for name, pictures in sets.items():
        scores[name] = evaluate_detector(detector, pictures, SCORE)
        print(f"{name}: {scores[name]}")
    return scores


def release(out: Path, size: tuple[int, int], training: str, pool: Path, photos: tuple[Path, Path] | None) -> None:
    """Write the averaged network of a run into the package, with its figures and its card."""
    network = trained(out)
    unsure = shift_scores(network, size)
    detector = DeployableDetector(network, size)
    model = onnx_model(detector)
    with tempfile.TemporaryDirectory() as folder:
        onnx.save(model, Path(folder) / "detector.onnx")
        scores = measured(Path(folder) / "detector.onnx", photos)
    figures = {name: {k: round(v, 3) for k, v in asdict(one).items()} for name, one in scores.items()}
    onnx.helper.set_model_props(model, {NAME_KEY: NAME, SCORES_KEY: json.dumps(figures)})
    with atomic_write(BUILTIN_FILE) as path:
        onnx.save(model, path)
    rows = [
        f"| {name} | {one.people} | {one.recall:.3f} | {one.precision:.3f} | {one.ap50:.3f} |"
        for name, one in scores.items()
    ]
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        detector(torch.zeros(1, 3, size[1], size[0]))
    card = CARD.substitute(
        teacher=TEACHER,
        width=WIDTH,
        parameters=f"{sum(one.numel() for one in network.parameters()) / 1e6:.2f}",
        gmac=f"{counter.get_total_flops() / 2e9:.2f}",
        size="x".join(map(str, size)),
        scenes=f"{len(Pool(pool)):,}",
        training=training,
        unsure=f"{unsure:.2f}",
        setting=judging.SETTING,
        megabytes=f"{BUILTIN_FILE.stat().st_size / 1e6:.2f}",
        score=f"{SCORE:g}",
        rows="\n".join(rows),
    )
    with atomic_write(BUILTIN_FILE.with_suffix(".md")) as path:
        path.write_text(card, encoding="utf-8")
    print(card)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("job", choices=["train", "evaluate", "release", "export"])
    parser.add_argument(
        "file", type=Path, nargs="?", default=BUILTIN_FILE, help="for evaluate and export: an ONNX file"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/detector"), help="folder of the run, or of the export")
    parser.add_argument("--pool", type=Path, help="folder of drawn scenes; OUT/scenes when left out")
    parser.add_argument("--scenes", type=int, default=0, help="for train: draw until the pool has so many")
    parser.add_argument("--draw-only", action="store_true", help="for train: draw scenes and leave it at that")
    parser.add_argument("--steps", type=int, default=Options.steps)
    parser.add_argument("--size", type=int, nargs=2, default=INPUT, help="for release: width and height of the input")
    parser.add_argument("--training", default="see tools/train_detector.py", help="for release: a line of the card")
    parser.add_argument("--photos", type=Path, nargs=2, default=PHOTOS, help="annotation file and folder of images")
    parser.add_argument("--target", choices=[*FORMATS], default="onnx")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.set_num_threads(arguments.threads)
    folder = arguments.pool or arguments.out / "scenes"
    annotations, images = arguments.photos
    photos = (annotations, images) if annotations.is_file() else None
    if photos is None and arguments.job in ("evaluate", "release"):
        print(f"There are no photographs at {annotations}: only rendered scenes are measured; pass --photos for more.")
    if arguments.job == "train":
        pool = Pool(folder)
        pool.grow(arguments.scenes)
        if not arguments.draw_only:
            train(arguments.out, pool, Options(steps=arguments.steps))
    elif arguments.job == "evaluate":
        measured(arguments.file, photos)
    elif arguments.job == "release":
        release(arguments.out, tuple(arguments.size), arguments.training, folder, photos)
    else:
        files = export_detector(read_detector(arguments.file), arguments.target, arguments.out)
        print(*files.values(), sep="\n")


if __name__ == "__main__":
    main()
