"""The report: every figure is on the page, it needs no network, and it works in a real browser without a mouse."""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from made_sweep import SWEEP, VARIANT, Made, int8, store_of
from typer.testing import CliRunner

from rtmw_edge.cli import app
from rtmw_edge.errors import BadInputError
from rtmw_edge.sweep.charts import Point, pareto, points
from rtmw_edge.sweep.report import write_report
from rtmw_edge.sweep.rows import PART_ORDER, rows_of, run_of
from rtmw_edge.sweep.store import Store

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

SCRIPT = """
<script>
window.addEventListener("load", () => {
  const seen = () => {
    const figure = [...document.querySelectorAll("figure[data-part]")].filter((f) => !f.hidden);
    const points = figure.flatMap((f) => [...f.querySelectorAll("a.point")]);
    const there = points.filter((p) => p.getBoundingClientRect().width > 0);
    return {
      figures: figure.map((f) => [f.dataset.part, f.dataset.cost]),
      points: there.map((p) => +p.dataset.row),
      front: figure.map((f) => f.querySelector("path.front").getAttribute("d")),
      rows: [...document.querySelectorAll("tr[data-row]")].filter((r) => r.offsetHeight > 0).map((r) => +r.dataset.row),
      count: document.getElementById("count").textContent,
    };
  };
  const press = (name, value) => document.querySelector(`input[name=${name}][value="${value}"]`).click();
  const out = { begin: seen() };
  press("part", "face"); out.face = seen();
  press("cost", "mb"); out.size = seen();
  press("cost", "ms"); press("lane", "int8 PTQ"); out.without_int8 = seen();
  press("lane", "int8 PTQ"); press("target", "onnx"); out.without_onnx = seen();
  press("target", "onnx");
  const point = [...document.querySelectorAll("figure:not([hidden]) a.point")][1];
  point.focus();
  out.label = getComputedStyle(point.querySelector(".label")).visibility;
  out.focused = document.activeElement === point;
  location.hash = point.getAttribute("href");
  out.target = document.querySelector(":target").id;
  const box = document.createElement("pre");
  box.id = "seen"; box.textContent = JSON.stringify(out);
  document.body.append(box);
});
</script>
"""


def write(folder: Path, **changes: object) -> str:
    """The page of the made sweep."""
    store_of(folder / "store")
    with Store.open(folder / "store") as store:
        run = run_of(store)
        write_report(folder / "report.html", rows_of(store, run), run.document, **changes)  # type: ignore[arg-type]
    return (folder / "report.html").read_text()


def browse(page: Path, *options: str) -> tuple[str, str]:
    """The page's final DOM, and what the browser logged of it."""
    if BROWSER is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    command = [
        BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0",
        f"--user-data-dir={page.parent / 'profile'}", "--virtual-time-budget=4000", *options, page.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)


def test_the_page_holds_every_figure_and_needs_no_network(tmp_path: Path) -> None:
    picture = tmp_path / "someone.png"
    cv2.imwrite(str(picture), np.full((8, 8, 3), 99, np.uint8))
    page = write(tmp_path, pictures=[picture], notes=["A note <of ours>."])
    for figure in (
        "<td>7.0</td>",
        "<td>0.60<br><small>(0.58 to 0.62)</small></td>",
        "80/80",
        "<td>5.0</td>",
        "a &lt;processor&gt;",
        "A note &lt;of",
    ):
        assert figure in page
    assert "How far keypoints are from PyTorch" in page
    assert page.count("<td>- / 1.5</td>") == 6  # the made px are of the whole alone
    assert "<strong>do not quantize on this board</strong>" in page and "<strong>quantize</strong>" in page
    assert "This processor has no VNNI" in page and "it said &lt;no&gt; &amp; stopped" in page
    assert "face: 3.00 AP points lost (at most 0.5" in page and 'src="data:image/png;base64,' in page
    assert not re.search(r'(src|href)="(https?:)?//|url\(|@import|fetch\(|XMLHttpRequest', page)
    assert page.count("<figure data-part=") == 4 * len(PART_ORDER)


def test_calibrations_of_one_target_can_be_told_apart(tmp_path: Path) -> None:
    assert 'name="calibrated"' not in write(tmp_path / "one")
    store_of(tmp_path / "two", (*SWEEP, Made(int8("onnx", method="mse"))))
    with Store.open(tmp_path / "two") as store:
        run = run_of(store)
        write_report(tmp_path / "two.html", rows_of(store, run), run.document)
    page = (tmp_path / "two.html").read_text()
    boxes = re.findall(r'type="checkbox" name="calibrated" value="(.*?)"', page)
    assert boxes == ["percentile synthetic:8", "mse synthetic:8"]
    assert 'data-calibrated="mse synthetic:8"' in page and 'data-calibrated=""' in page


@pytest.mark.slow
def test_a_browser_shows_points_and_filters_them_without_a_word_of_complaint(tmp_path: Path) -> None:
    page = write(tmp_path).replace("</html>", SCRIPT + "</html>")
    (tmp_path / "tested.html").write_text(page)
    dom, complaints = browse(tmp_path / "tested.html", "--dump-dom")
    assert complaints == ""
    found = json.loads(re.search(r'<pre id="seen">(.*?)</pre>', dom, re.DOTALL)[1].replace("&amp;", "&"))  # type: ignore[index]
    cells = [0, 1, 2, 3, 4, 5]  # ncnn failed and has no point
    assert found["begin"]["figures"] == [["whole", "ms"]] and found["begin"]["points"] == cells
    assert found["begin"]["rows"] == [*cells, 6] and found["begin"]["count"] == "7 of 7 cells shown"
    assert found["face"]["figures"] == [["face", "ms"]] and found["size"]["figures"] == [["face", "mb"]]
    assert found["without_int8"]["points"] == [0, 3, 4] and found["without_int8"]["rows"] == [0, 3, 4, 6]
    assert found["without_onnx"]["points"] == [4, 5] and found["without_onnx"]["count"] == "3 of 7 cells shown"
    # The front of openvino in fp32 (8.0 ms) and int8 (8.1 ms, less accurate) is the first alone: one corner.
    assert re.fullmatch(r"M[\d.]+ [\d.]+", found["without_onnx"]["front"][0])
    assert found["face"]["front"][0].count("H") == 2  # 5 ms broken, 6 ms affine, 8 ms float
    assert found["label"] == "visible" and found["focused"] and found["target"] == "row-1"


@pytest.mark.slow
def test_it_prints_and_is_drawn_in_dark(tmp_path: Path) -> None:
    write(tmp_path)
    for name, options in (("light", ()), ("dark", ("--blink-settings=preferredColorScheme=0",))):
        picture = tmp_path / f"{name}.png"
        browse(tmp_path / "report.html", f"--screenshot={picture}", "--window-size=1200,1600", *options)
        drawn = cv2.imread(str(picture))
        assert drawn.shape[:2] == (1600, 1200)
        assert (np.median(drawn) > 200) == (name == "light")
    browse(tmp_path / "report.html", f"--print-to-pdf={tmp_path / 'page.pdf'}")
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.slow
def test_boards_have_verdicts_environments_and_boxes_of_their_own(tmp_path: Path) -> None:
    away = tuple(replace(made, cell=replace(made.cell, board="pi5"), ratio=(1.2, 1.1, 1.3)) for made in SWEEP[:2])
    store_of(tmp_path / "store", (*SWEEP[:3], *away))
    with Store.open(tmp_path / "store") as store:
        run = run_of(store)
        rows = rows_of(store, run)
        write_report(tmp_path / "report.html", rows, run.document)
    assert [row.label for row in rows[3:]] == ["onnx fp32 on pi5", "onnx int8 PTQ common on pi5"]
    page = (tmp_path / "report.html").read_text()
    assert f"{VARIANT} on onnx: <strong>quantize</strong>" in page
    assert f"{VARIANT} on onnx on pi5: <strong>do not quantize on this board</strong>" in page
    assert "Environment of pi5" in page and "Made Pi" in page
    assert "local: This processor has no VNNI" in page and "pi5: This processor has no dot product" in page
    press = "<script>document.querySelector('input[name=board][value=pi5]').click()</script>"
    (tmp_path / "tested.html").write_text(page.replace("</html>", press + "</html>"))
    dom, complaints = browse(tmp_path / "tested.html", "--dump-dom")
    assert complaints == "" and "3 of 5 cells shown" in dom


def test_the_front_is_what_no_other_point_beats_in_both() -> None:
    drawn = random.Random(0)
    for _ in range(50):
        found = [
            Point(i, drawn.randint(1, 12), drawn.randint(1, 12), 0, 0, "onnx", "fp32", "v", "", False)
            for i in range(15)
        ]
        beaten = {
            (p.cost, p.ap)
            for p in found
            if any(q.cost <= p.cost and q.ap >= p.ap and (q.cost, q.ap) != (p.cost, p.ap) for q in found)
        }
        assert {(p.cost, p.ap) for p in pareto(found)} == {(p.cost, p.ap) for p in found} - beaten


@pytest.mark.slow
def test_numbers_of_threads_have_fronts_of_their_own(tmp_path: Path) -> None:
    """A pace is over ONNX in fp32 on as many threads; one thread's 0.5 beats nothing that runs on four."""
    four = tuple(
        replace(made, cell=replace(made.cell, threads=4), ms=made.ms / 4, ratio=tuple(end + 0.1 for end in made.ratio))
        for made in SWEEP[:2]
    )
    one = tuple(replace(made, cell=replace(made.cell, threads=1)) for made in SWEEP[:3])
    store_of(tmp_path / "store", (*one, *four))
    with Store.open(tmp_path / "store") as store:
        run = run_of(store)
        write_report(tmp_path / "report.html", rows_of(store, run), run.document)
    page = (tmp_path / "report.html").read_text()
    script = "<script>document.querySelector('input[name=cost][value=pace]').click()</script>"
    (tmp_path / "tested.html").write_text(page.replace("</html>", script + "</html>"))
    dom, complaints = browse(tmp_path / "tested.html", "--dump-dom")
    assert complaints == ""
    for text in (page, dom):
        drawn = re.search(r'<figure data-part="whole" data-cost="pace".*?</figure>', text, re.DOTALL)
        assert drawn is not None
        fronts = dict(re.findall(r'class="front" data-group="(.*?)" d="(.*?)"', drawn[0]))
        assert {group: path.count("H") for group, path in fronts.items()} == {
            f"{VARIANT}  cpu 1": 2, f"{VARIANT}  cpu 4": 1,
        }  # fmt: skip
        assert "dashed, for each variant, board, device and number of threads: nothing" in drawn[0]


def test_files_are_as_large_with_any_number_of_threads_and_have_one_front(tmp_path: Path) -> None:
    threads = tuple(replace(made, cell=replace(made.cell, threads=count)) for count in (1, 4) for made in SWEEP[:2])
    store_of(tmp_path / "store", threads)
    with Store.open(tmp_path / "store") as store:
        run = run_of(store)
        write_report(tmp_path / "report.html", rows_of(store, run), run.document)
    page = (tmp_path / "report.html").read_text()
    for cost, fronts in (("mb", 1), ("memory", 2)):
        drawn = re.search(rf'<figure data-part="whole" data-cost="{cost}".*?</figure>', page, re.DOTALL)
        assert drawn is not None and drawn[0].count('class="front"') == fronts
        assert ("number of threads" in drawn[0]) is (fronts == 2)


def test_points_lie_where_their_figures_are(tmp_path: Path) -> None:
    folder = store_of(tmp_path / "store")
    out = tmp_path / "chart.svg"
    done = CliRunner().invoke(app, ["results", "export", str(folder), "--svg", "--part", "face", "--out", str(out)])
    assert done.exit_code == 0, done.output
    tree = ElementTree.parse(out).getroot()
    name = "{http://www.w3.org/2000/svg}"
    marks = [g for g in tree.iter(f"{name}g") if "point" in g.get("class", "")]
    assert len(marks) == 6 and sum("failed" in mark.get("class", "") for mark in marks) == 1
    with Store.open(folder) as store:
        expected = points(rows_of(store, run_of(store)), "face", "ms")
    places = [
        tuple(map(float, re.findall(r"-?[\d.]+", mark.findall(f"{name}path")[1].get("transform", ""))))
        for mark in marks
    ]
    x = np.array([place[0] for place in places])
    y = np.array([place[1] for place in places])
    # Straight lines through logarithms of milliseconds, and through AP.
    for coordinate, figure in ((x, np.log([p.cost for p in expected])), (y, np.array([p.ap for p in expected]))):
        assert abs(np.corrcoef(coordinate, figure)[0, 1]) == pytest.approx(1, abs=1e-5)
    assert x[1] < x[0] and y[1] > y[0]  # int8: faster, and lower


@pytest.mark.parametrize("kind", ["--markdown", "--csv", "--json", "--svg", ""])
def test_nobody_elses_file_is_written_over(tmp_path: Path, kind: str) -> None:
    folder, out = store_of(tmp_path / "store"), tmp_path / "mine.txt"
    words = ["results", "export", str(folder), kind] if kind else ["results", "report", str(folder)]
    for _ in range(2):
        done = CliRunner().invoke(app, [*words, "--out", str(out)])
        assert done.exit_code == 0, done.output
    out.write_text("my own words")
    done = CliRunner().invoke(app, [*words, "--out", str(out)])
    assert isinstance(done.exception, BadInputError) and "this command did not write it" in str(done.exception)
    assert out.read_text() == "my own words"


def test_a_sweep_in_which_nothing_worked_has_a_page_too(tmp_path: Path) -> None:
    folder = store_of(tmp_path / "store", tuple(replace(made, reason="No.") for made in SWEEP))
    done = CliRunner().invoke(app, ["results", "report", str(folder)])
    assert done.exit_code == 0 and "No cell has both figures." in (folder / "report.html").read_text()
