"""What a wrong name is answered."""

from __future__ import annotations

import pytest

from rtmw_edge.errors import unknown

SETS = ("cofw", "coco-wholebody", "h3wb", "COCO-extra")


@pytest.mark.parametrize(
    ("value", "near"),
    [
        ("coco-whole", "coco-wholebody"),
        ("H3WB", "h3wb"),
        ("coco-e", "COCO-extra"),
        ("cofv", "cofw"),
        ("zzz", None),
        ("", None),
    ],
)
def test_the_nearest_name_begins_alike_or_is_spelled_alike(value: str, near: str | None) -> None:
    hint = f"; did you mean '{near}'?" if near else "."
    assert str(unknown("kind", value, SETS)) == f"Unknown kind '{value}'{hint} Choose one of: {', '.join(SETS)}."


def test_a_name_that_was_begun_is_no_other_one_of_its_length() -> None:
    assert "did you mean 'coco-wholebody'?" in str(unknown("kind", "coco", SETS[:3]))
