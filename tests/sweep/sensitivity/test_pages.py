"""The CSV and the heat map: every figure is there, and the page needs nothing but itself."""

from __future__ import annotations

import csv
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from rtmw_edge.sweep.sensitivity.choice import Choice
from rtmw_edge.sweep.sensitivity.findings import Finding, Way
from rtmw_edge.sweep.sensitivity.heat_map import write_heat_map
from rtmw_edge.sweep.sensitivity.layer_costs import LayerCosts
from rtmw_edge.sweep.sensitivity.proxy import Distances
from rtmw_edge.sweep.sensitivity.study import Study
from rtmw_edge.sweep.sensitivity.table import Row, SensitivityTable

NEAR = {"body": Distances((0.0, 0.5, 2.5), 0.25, 0.0125), "whole": Distances((0.0, 0.5, 3.5), 0.5, 0.025)}
FAR = {"body": Distances((0.0, 1.5, 7.5), 0.75, 0.05), "whole": Distances((0.0, 2.5, 9.5), 0.875, 0.1)}


def finding(way: Way, unit: str, body: float, whole: float, near: dict[str, Distances] = NEAR) -> Finding:
    return Finding(way, unit, near, {"body": body, "whole": whole})


@pytest.fixture()
def table() -> SensitivityTable:
    rows = [
        Row(
            "stem.0.conv", finding(Way.ALONE, "stem.0.conv", 69, 59.5), finding(Way.ALL_BUT, "stem.0.conv", 66, 57), 2.5
        ),
        Row(
            "stem.1.conv",
            finding(Way.ALONE, "stem.1.conv", 68, 58, FAR),
            finding(Way.ALL_BUT, "stem.1.conv", 64.5, 55),
            1.25,
        ),
        Row(
            "head<1>.conv",
            finding(Way.ALONE, "head<1>.conv", 70.25, 60),
            finding(Way.ALL_BUT, "head<1>.conv", 65, 56),
            -0.5,
        ),
    ]
    costs = LayerCosts("ms", "told", {})
    return SensitivityTable(finding(Way.FLOAT, "", 70, 60), finding(Way.INT8, "", 65, 56), rows, costs)


BLOCKS = {"stem.0.conv": "stem", "stem.1.conv": "stem", "head<1>.conv": "head<1>"}


def page_of(table: SensitivityTable, path: Path, choice: Choice | None = None) -> str:
    notes, facts = ["A <note>."], {"cores": "2 & more"}
    write_heat_map(path, table, BLOCKS, title="small <net>", notes=notes, environment=facts, choice=choice)
    return path.read_text()


class Rows(HTMLParser):
    """The texts of every table row."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self._open = False

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self._open = True

    def handle_endtag(self, tag: str) -> None:
        self._open = self._open and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self._open:
            self.rows[-1][-1] += data


def test_changes_are_against_float_alone_and_against_int8_otherwise(table: SensitivityTable) -> None:
    assert table.change(table.rows[0].alone) == {"body": -1.0, "whole": -0.5}
    assert table.change(table.rows[0].all_but) == {"body": 1.0, "whole": 1.0}
    assert table.correlations()["px p99"]["whole"] == pytest.approx(0.8660254)  # ranks 1.5, 3, 1.5 and 2, 3, 1


def test_the_csv_has_a_line_for_every_unit_way_and_part(table: SensitivityTable, tmp_path: Path) -> None:
    table.write_csv(tmp_path / "a.csv")
    with (tmp_path / "a.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == (2 + 2 * 3) * 6
    found = {(line["unit"], line["way"], line["part"]): line for line in lines}
    line = found["stem.1.conv", "alone", "body"]
    assert (line["ap"], line["ap_change"], line["px_p99"], line["bin_flips"]) == ("68.0000", "-2.0000", "7.5", "0.75")
    assert (line["oks_loss"], line["cost_ms"]) == ("0.05", "1.25")
    assert found["", "int8", "whole"]["ap"] == "56.0000" and found["", "float", "body"]["ap_change"] == ""
    assert found["stem.0.conv", "all-but", "face"]["ap"] == found["stem.0.conv", "all-but", "face"]["px_p50"] == ""


def test_the_page_shows_what_was_lost_and_won_back(table: SensitivityTable, tmp_path: Path) -> None:
    reader = Rows()
    reader.feed(page_of(table, tmp_path / "a.html"))
    rows = {row[0]: row for row in reversed(reader.rows) if row}
    dash = "-"
    assert rows["lost"] == ["lost", "5.00", "4.00"]
    first = [row for row in reader.rows if row[:1] == ["0"]]  # stem.0.conv below its block's heading
    assert ["stem"] in reader.rows and len(first) == 2
    assert first[0] == ["0", "1.00", dash, dash, dash, dash, "0.50", "1.00", dash, dash, dash, dash, "1.00", "2.5"]
    assert first[1][1:7] == ["2.5", dash, dash, dash, dash, "3.5"] and first[1][12] == "50" and first[1][18] == "2.50"
    assert rows["head<1>"][1] == "-0.25"
    assert rows["px p99"] == ["px p99", "0.87", dash, dash, dash, dash, "0.87"]


def test_colours_tell_harm_from_help_and_large_from_small(table: SensitivityTable, tmp_path: Path) -> None:
    page = page_of(table, tmp_path / "a.html")
    assert 'style="background:rgba(226,98,20,0.80)">2.00<' in page  # the largest of its map
    assert 'style="background:rgba(226,98,20,0.40)">1.00<' in page
    assert 'style="background:rgba(44,124,200,0.10)">-0.25<' in page


def test_the_page_needs_no_network_and_no_script(table: SensitivityTable, tmp_path: Path) -> None:
    page = page_of(table, tmp_path / "a.html")
    assert not re.search(r"<script|src=|href=|url\(|@import", page)
    assert "color-scheme:light dark" in page and "@media print" in page
    for escaped in ("small &lt;net&gt;", "A &lt;note&gt;.", "2 &amp; more", "head&lt;1&gt;"):
        assert escaped in page
    assert "<net>" not in page and "<1>" not in page


def test_what_a_budget_chose_is_listed_and_marked(table: SensitivityTable, tmp_path: Path) -> None:
    choice = Choice("whole<=2", ("stem.1.conv",), ("stem.1.conv",), {"whole": 1.5, "left_hand": 0.25}, 1.25)
    page = page_of(table, tmp_path / "a.html", choice)
    assert "Left in float by the budget whole&lt;=2" in page and "<code>stem.1.conv</code>" in page
    assert "whole 1.50, left hand 0.25" in page and "Cost: 1.25 ms a crop" in page
    assert page.count('<tr class="chosen"') == 2


def test_without_ap_there_is_the_distance_alone(table: SensitivityTable, tmp_path: Path) -> None:
    bare = [replace(row, alone=replace(row.alone, ap={}), all_but=replace(row.all_but, ap={})) for row in table.rows]
    page = page_of(replace(table, rows=bare), tmp_path / "a.html")
    assert "Average precision, points" not in page and "Distance from the float network" in page
    assert "How well" not in page


def test_a_studys_table_holds_all_units(study: Study) -> None:
    units = study.subject.units(by_block=True)
    costs = LayerCosts("MMAC", "even", dict.fromkeys(study.subject.quantized, 1.0))
    found = SensitivityTable.of(study, units, costs)
    assert [row.unit for row in found.rows] == list(units) and found.has_ap
    assert found.rows[0].cost == 3.0  # the stem's three convolutions
    # Damage done on purpose: over a whole network the distances rank the lost AP well.
    assert found.correlations()["OKS loss"]["whole"] > 0.8
