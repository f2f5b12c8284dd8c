"""One self-contained HTML page of a validation: verdict, figures, worst crops. No script, no network."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ..bundle import GateCheck
from ..bundle.gate_report import MEASURES
from ..errors import BadInputError
from ..files import atomic_write, check_writable
from .intervals import Estimate
from .validation import Side, Validation, WorstCrop
from .validation_pictures import jpeg, side_by_side

HEAD = "<!doctype html><!-- rtmw-edge validation -->"
"""How every such page begins: what tells it from somebody else's file."""

FORMAT = "rtmw-edge validation"

STYLE = """
:root{color-scheme:light dark;--line:#8884;--weak:#777;--good:#15803d;--bad:#c81e1e;--mark:#3b82f6}
@media (prefers-color-scheme:dark){:root{--good:#4ade80;--bad:#f87171;--weak:#aaa}}
body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:76rem;padding:0 1rem}
h1{line-height:1.2}
.verdict{border-left:.5rem solid;padding:.5rem 1rem;font-size:1.1rem}
.good{color:var(--good)}.bad{color:var(--bad)}.weak{color:var(--weak)}
.verdict b{font-size:1.4rem;display:block}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.92rem}
th,td{padding:.3rem .6rem;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap;vertical-align:top}
th:first-child,td:first-child,.facts td{text-align:left}.facts td{white-space:normal;overflow-wrap:anywhere}
.scroll{overflow-x:auto}
svg{width:10rem;height:1.2rem;vertical-align:middle}
.crops{display:grid;grid-template-columns:repeat(auto-fill,minmax(22rem,1fr));gap:1rem}
figure{margin:0;break-inside:avoid}figure img{width:100%;border-radius:4px}figcaption{font-size:.9rem}
@media print{body{max-width:none;margin:0;font-size:11px}.scroll{overflow:visible}tr,.verdict{break-inside:avoid}}
"""


def write_report(path: Path, validation: Validation, notes: Sequence[str], environment: Mapping[str, str]) -> None:
    """Write the page to `path`: `notes` are sentences on how the figures came about, `environment` is shown as it is.

    Raises BadInputError when the place cannot be written.
    """
    one, two = validation.reference, validation.device
    gate = validation.gate
    word, tone = ("Passed", "good") if gate.passed else ("Failed", "bad")
    title = f"{two.name} against {one.name}"
    page = "\n".join(
        [
            HEAD,
            '<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">',
            f"<title>{word}: {_text(title)}</title><style>{STYLE}</style></head><body>",
            f"<h1>{_text(title)}</h1>",
            f'<p class="verdict {tone}"><b>{word}</b>{_text(gate.sentence())}</p>',
            *_gate(validation),
            *_accuracy(validation),
            *_agreement(validation),
            *_mpjpe(validation),
            *_flip(validation),
            *_crops(validation),
            "<h2>What ran</h2>",
            _table(["", "reference", "device"], _sides(one, two), facts=True),
            *(f'<p class="weak">{_text(note)}</p>' for note in notes),
            "<h2>Where</h2>",
            _table(["", "this machine"], [[name, value] for name, value in environment.items()], facts=True),
            "</body></html>\n",
        ]
    )
    with atomic_write(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def write_json(path: Path, validation: Validation, notes: Sequence[str], environment: Mapping[str, str]) -> None:
    """Write all figures to `path` as one JSON document. Raises BadInputError when the place cannot be written."""
    document = {"format": FORMAT, **validation.to_dict(), "notes": list(notes), "environment": dict(environment)}
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def check_ours(report: Path | None, figures: Path | None) -> None:
    """Raise BadInputError when one of the two could not be written, or would be over the other or a foreign file."""
    if report is not None and figures is not None and report.resolve() == figures.resolve():
        raise BadInputError(f"--report and --json both name {report}: give one of them another.")
    for path, head in ((report, HEAD), (figures, f'{{\n "format": "{FORMAT}"')):
        if path is not None:
            check_writable(path, head.encode())


def interval(figure: Estimate, digits: int = 1) -> str:
    """A figure with its interval as words: "0.4 (-0.1 to 0.9)"."""
    return f"{figure.value:.{digits}f} ({figure.low:.{digits}f} to {figure.high:.{digits}f})"


def _gate(validation: Validation) -> list[str]:
    checks = validation.gate.checks
    known = [check for check in checks if check.value is not None]
    rows = []
    for check in checks:
        same = [other for other in known if other.measure == check.measure]
        verdict = "kept" if check.passed else "broken"
        mark = f'<span class="{"good" if check.passed else "bad"}">{verdict}</span>'
        noise = ' <span class="weak">within noise</span>' if check.within_noise else ""
        figure = "not measured" if check.value is None else f"{check.value:.2f}"
        ends = "" if check.low is None else f"{check.low:.2f} to {check.high:.2f}"
        name = f"{_part(check.part)}: {MEASURES[check.measure]}"
        rows.append([_text(name), figure, ends, _drawn(check, same), f"{check.limit:g}", mark + noise])
    rule = "A strict gate: the whole interval" if validation.gate.strict else "The figure itself"
    return [
        "<h2>Gate</h2>",
        _table(["", "measured", "95 % interval", "", "at most", ""], rows, escape=False),
        f'<p class="weak">{rule} must keep the limit. The drawing shows the figure (dot), its interval (bar), the '
        "limit (tall tick) and zero (short tick).</p>",
    ]


def _drawn(check: GateCheck, same: Iterable[GateCheck]) -> str:
    """A check on the scale that all checks of its measure share."""
    if check.value is None or check.low is None or check.high is None:
        return ""
    ends = [end for other in same for end in (other.low, other.high, other.limit) if end is not None]
    low, high = min(0.0, *ends), max(0.0, *ends)
    step = 190 / ((high - low) or 1.0)

    def x(value: float) -> float:
        return round(5 + (value - low) * step, 1)

    colour = "var(--good)" if check.passed else "var(--bad)"
    return (
        f'<svg viewBox="0 0 200 20" role="img" aria-label="{check.value:.2f}, at most {check.limit:g}">'
        f'<path d="M{x(0)} 7v6" stroke="currentColor" opacity=".5"/>'
        f'<path d="M{x(check.low)} 10H{x(check.high)}" stroke="{colour}" stroke-width="3"/>'
        f'<path d="M{x(check.limit)} 1v18" stroke="currentColor" stroke-width="1.5"/>'
        f'<circle cx="{x(check.value)}" cy="10" r="4" fill="{colour}"/></svg>'
    )


def _accuracy(validation: Validation) -> list[str]:
    rows = [
        [_part(part), *(interval(figure) for figure in (ap.reference, ap.device, ap.drop))]
        for part, ap in validation.ap.items()
    ]
    heads = ["AP, points of 100 (95 % interval)", "reference", "device", "lost"]
    evaluation = validation.device.evaluation
    about = f"{evaluation.images} images, {evaluation.people} people, {evaluation.boxes} boxes, {evaluation.dataset}"
    flip = f", {evaluation.flip} flip test" if evaluation.flip else ""
    return ["<h2>Accuracy</h2>", _table(heads, rows), f'<p class="weak">{_text(about + flip)}.</p>']


def _agreement(validation: Validation) -> list[str]:
    rows = [
        [
            _part(part),
            *(interval(found.px[name], 2) for name in found.px),
            *(interval(figure.scaled(100)) for figure in (found.flipped, found.flipped_far)),
            f"{found.keypoints} of {found.of}",
        ]
        for part, found in validation.agreement.items()
    ]
    heads = ["apart, crop px", "median", "90 %", "99 %", "other bin, %", "by more than one", "keypoints"]
    return [
        "<h2>Agreement</h2>",
        _table(heads, rows),
        '<p class="weak">Of the keypoints that the reference is sure of: those that score above half the median of all '
        "its scores. A bin is half a pixel.</p>",
    ]


def _mpjpe(validation: Validation) -> list[str]:
    rows = [
        [_part(part), *(interval(figure) for figure in (found.reference, found.device, found.percent))]
        for part, found in validation.mpjpe.items()
    ]
    heads = ["MPJPE with the hips aligned, mm", "reference", "device", "more, %"]
    return ["<h2>3D</h2>", _table(heads, rows)] if rows else []


def _flip(validation: Validation) -> list[str]:
    if not validation.flip_ap:
        return []
    parts = next(iter(validation.flip_ap.values()))
    rows = [
        [_part(part), *(f"{aps[part][side]:.1f}" for side in (0, 1) for aps in validation.flip_ap.values())]
        for part in parts
    ]
    heads = ["AP, points", *(f"{side}, {kind}" for side in ("reference", "device") for kind in validation.flip_ap)]
    return [
        "<h2>Flip test</h2>",
        _table(heads, rows),
        '<p class="weak">"official" lays the mirror image over the crop half a pixel to the right, as mmpose does '
        'and as official figures have it; "aligned" does not.</p>',
    ]


def _crops(validation: Validation) -> list[str]:
    if not validation.worst:
        words = "The two put every keypoint that the reference is sure of on the same pixel."
        return ["<h2>Worst crops</h2>", f"<p>{words}</p>"]
    left, right = _text(validation.reference.name), _text(validation.device.name)
    return [
        "<h2>Worst crops</h2>",
        f"<p>Left {left}, right {right}: the keypoints that the reference is sure of. A line starts in a ring where "
        "the reference has the keypoint, and ends where the device has it.</p>",
        '<div class="crops">',
        *(_figure(crop) for crop in validation.worst),
        "</div>",
    ]


def _figure(crop: WorstCrop) -> str:
    data = base64.b64encode(jpeg(side_by_side(crop))).decode("ascii")
    caption = f"image {crop.image_id}: {crop.px:.2f} px apart in the mean"
    return (
        f'<figure><img alt="{caption}; reference left, device right" src="data:image/jpeg;base64,{data}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _sides(*sides: Side) -> list[list[str]]:
    ran = [side.ran for side in sides]
    return [
        ["variant", *(side.variant for side in sides)],
        ["format", *(f"{side.target} {side.precision}" for side in sides)],
        ["runtime", *(f"{one.runtime} {one.version}" for one in ran)],
        ["device", *(one.device for one in ran)],
        ["threads", *(str(one.threads or "the runtime's choice") for one in ran)],
        ["convolutions in int8", *(f"{one.int8} of {one.convolutions}" for one in ran)],
        ["kernels", *(", ".join(f"{count} {kernel}" for kernel, count in one.kernels.items()) for one in ran)],
        ["weights, sha256", *(side.weights_sha256 for side in sides)],
    ]


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, escape: bool = True, facts: bool = False) -> str:
    shown = _text if escape else str
    top = "".join(f'<th scope="col">{_text(head)}</th>' for head in heads)
    body = "\n".join("<tr>" + "".join(f"<td>{shown(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    kind = ' class="facts"' if facts else ""
    return f'<div class="scroll"><table{kind}><thead><tr>{top}</tr></thead><tbody>\n{body}\n</tbody></table></div>'


def _part(part: str) -> str:
    return part.replace("_", " ")


def _text(words: str) -> str:
    return html.escape(words)
