"""The data configuration, the cache, joined sets, broken images, and `rtmw-edge data check` and `data draw`."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from set_files import HEIGHT, WIDTH, annotation, document, grid, interhand, opened
from typer.testing import CliRunner

from rtmw_edge.cli.data import app
from rtmw_edge.data.contact_sheet import contact_sheet, tile
from rtmw_edge.data.instances import Instance, Joined, read_instance
from rtmw_edge.data.sets import KINDS, AnnotatedSet, SetConfig, open_set, open_sets, read_config
from rtmw_edge.errors import BadInputError, VerificationError

CONFIG = """
root = "data"
cache = "cache"

[[set]]
kind = "aic"
root = "aic"

[[set]]
kind = "aic"
name = "more"
root = "/elsewhere"
annotations = "labels.json"
images = "pictures"
every = 5
"""


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_configuration(tmp_path: Path) -> None:
    config = read_config(written(tmp_path / "data.toml", CONFIG))
    assert config.cache == tmp_path / "cache"
    first, second = config.sets
    assert first == SetConfig("aic", tmp_path / "data/aic", name="aic")
    assert first.files() == [tmp_path / "data/aic/annotations/aic_train.json"]
    assert (second.name, second.every, second.files()) == ("more", 5, [Path("/elsewhere/labels.json")])


def test_the_files_of_an_annotation_folder_are_listed_but_for_hidden_ones(tmp_path: Path) -> None:
    for name in ("b.json", "a.json", "._a.json", "notes.txt"):
        written(tmp_path / name, "{}")
    found = SetConfig("aic", tmp_path, annotations=".").files()
    assert found == [tmp_path / "a.json", tmp_path / "b.json"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[set]", r"The data configuration .*data\.toml is not TOML"),
        ("", r"names no set: write a \[\[set\]\] with kind and root for each"),
        ("set = 3", r"names no set"),
        ("chache = 'x'", r"Unknown key of a data configuration 'chache'; did you mean 'cache'\?"),
        ("[[set]]\nkind = 'wlfw'\nroot = 'x'", r"Unknown kind of set 'wlfw'; did you mean 'wflw'\?"),
        ("[[set]]\nkind = 'wflw'", r"A \[\[set\]\] lacks its 'root': write root = \"\.\.\.\""),
        (
            "[[set]]\nkind = 'wflw'\nroot = 'x'\nimagse = 'y'",
            r"Unknown key of a \[\[set\]\] 'imagse'; did you mean 'images'",
        ),
        ("[[set]]\nkind = 'wflw'\nroot = 3", r"root = 3 is not a text"),
        ("root = 5\n[[set]]\nkind = 'wflw'\nroot = 'x'", r"^In /.*/data\.toml: root = 5 is not a text\.$"),
        ("[[set]]\nkind = 'wflw'\nroot = 'x'\nevery = '3'", r"every = '3' is not a whole number"),
        (
            "[[set]]\nkind = 'wflw'\nroot = 'x'\nevery = 0",
            r"every = 0 keeps no image: write 1 for all",
        ),
        ("[[set]]\nkind = 'h3wb'\nroot = 'x'\nsubjects = 'S7'", r"subjects = 'S7' is not a list of texts"),
        (
            "[[set]]\nkind = 'wflw'\nroot = 'x'\nscenes = ['a']",
            r"the kind 'wflw' has no scenes: leave that key out",
        ),
        ("[[set]]\nkind = 'wflw'\nroot = 'x'\n" * 2, r"Two sets have the name 'wflw': give one of them another"),
    ],
)
def test_a_wrong_configuration_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        read_config(written(tmp_path / "data.toml", text))


def test_a_missing_configuration_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"There is no data configuration .*none\.toml: check the path"):
        read_config(tmp_path / "none.toml")


def test_the_documented_configuration_names_every_kind() -> None:
    guide = (Path(__file__).parents[2] / "docs/data.md").read_text()
    for kind, entry in KINDS.items():
        assert f'kind = "{kind}"' in guide, f"docs/data.md lacks {kind}"
        assert entry.annotations.rpartition("/")[2] in guide, f"docs/data.md lacks the annotations of {kind}"


def equal(one: AnnotatedSet, other: AnnotatedSet) -> bool:
    pairs = [(one[i], other[i]) for i in range(len(one))]
    same = all(
        a.image == b.image
        and all(np.array_equal(getattr(a, k), getattr(b, k)) for k in ("box", "keypoints", "visible"))
        for a, b in pairs
    )
    return same and len(one) == len(other) and dict(one.skipped) == dict(other.skipped) and one.name == other.name


def test_the_cache_gives_the_same_set_until_a_file_changes(tmp_path: Path) -> None:
    people = [annotation(14, image_id=i) for i in (1, 2)]
    plain = opened(tmp_path, "aic", document([*people, annotation(14, iscrowd=1)], images=2))
    config = SetConfig("aic", tmp_path, annotations="labels.json", images=".")
    cache = tmp_path / "cache"
    first = open_set(config, cache)
    (kept,) = cache.iterdir()
    assert kept.name.startswith("aic-") and equal(first, plain)
    stamp = (kept / "points.npy").stat().st_mtime_ns
    again = open_set(config, cache)
    assert equal(again, plain) and (kept / "points.npy").stat().st_mtime_ns == stamp
    assert isinstance(again.points, np.memmap) and not again.points.flags.writeable
    again[0].keypoints[:] = 0  # an instance is the caller's own
    assert equal(open_set(config, cache), plain)
    (tmp_path / "labels.json").write_text(json.dumps(document([annotation(14)])))
    assert len(open_set(config, cache)) == 1
    assert len(list(cache.iterdir())) == 2


def test_two_ranks_may_write_the_cache_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second finds the folder complete when it comes to rename its own, and uses it."""
    from rtmw_edge.data.sets import cache as module

    plain = opened(tmp_path, "aic", document([annotation(14)]))
    config = SetConfig("aic", tmp_path, annotations="labels.json", images=".")
    renamed, real = [], module.os.rename

    def rename(source: Path, target: Path) -> None:
        if not renamed:
            renamed.append(target)
            open_set(config, tmp_path / "cache")
        real(source, target)

    monkeypatch.setattr(module.os, "rename", rename)
    assert equal(open_set(config, tmp_path / "cache"), plain)
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    opened(tmp_path, "aic", document([annotation(14)]))
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInputError, match=r"Cannot write .*file.*Choose another place"):
        open_set(SetConfig("aic", tmp_path, annotations="labels.json", images="."), tmp_path / "file")


def pictures(folder: Path, count: int, kind: str = "aic") -> AnnotatedSet:
    """A set of one instance on each of `count` images, grey as its number."""
    table = opened(folder, kind, document([annotation(14, image_id=i) for i in range(1, count + 1)], images=count))
    for image in range(count):
        cv2.imwrite(str(table.path(image)), np.full((HEIGHT, WIDTH, 3), image, np.uint8))
    return table


def test_sets_are_joined_in_order(tmp_path: Path) -> None:
    one, two = pictures(tmp_path / "a", 2), pictures(tmp_path / "b", 3)
    joined = Joined([one, two])
    assert (len(joined), joined.name) == (5, "aic+aic")
    assert [joined[i].image for i in range(5)] == [part.path(i) for part in (one, two) for i in range(len(part))]
    with pytest.raises(IndexError):
        joined[5]
    with pytest.raises(BadInputError, match="The set '' is empty: there is no instance 0 to read"):
        read_instance(Joined([]), 0, Counter())


def test_unreadable_images_are_passed_over_and_counted(tmp_path: Path) -> None:
    table = pictures(tmp_path, 4)
    table.path(1).unlink()
    table.path(2).write_bytes(b"not a picture")
    skipped: Counter[str] = Counter()
    seen = [int(read_instance(table, index, skipped)[0][0, 0, 0]) for index in range(4)]
    assert seen == [0, 3, 3, 3] and skipped == {"aic": 3}
    for image in range(4):
        table.path(image).unlink(missing_ok=True)
    with pytest.raises(BadInputError, match=r"None of 4 images in a row of 'aic' can be read, the last .* There is"):
        read_instance(table, 2, skipped)


def test_a_picture_of_another_size_than_annotated_is_passed_over(tmp_path: Path) -> None:
    table = pictures(tmp_path, 2)
    cv2.imwrite(str(table.path(0)), np.zeros((HEIGHT // 2, WIDTH // 2, 3), np.uint8))
    skipped: Counter[str] = Counter()
    assert int(read_instance(table, 0, skipped)[0][0, 0, 0]) == 1 and skipped == {"aic": 1}
    kept = open_set(SetConfig("aic", tmp_path, annotations="labels.json", images="."), tmp_path / "cache")
    for index in range(2):
        assert kept[index].size == table[index].size == (WIDTH, HEIGHT)
    lines = checked(tmp_path, ENTRY).output.splitlines()
    assert lines[1].split() == ["aic", "2", "2", "0", "1", "of", "2", "none"]
    assert lines[2].strip() == (
        f"The image {table.path(0)} has 200x150 pixels and is annotated as 400x300: take the file that was annotated, "
        "not a resized or turned copy."
    )


def test_a_rendered_instance_needs_no_file() -> None:
    picture = np.zeros((4, 4, 3), np.uint8)
    zeros = np.zeros((133, 2), np.float32), np.zeros(133, np.uint8)
    instance = Instance(picture, np.array([0, 0, 3, 3], np.float32), *zeros, None, None, "synthetic", True)

    class One:
        name = "synthetic"

        def __len__(self) -> int:
            return 1

        def __getitem__(self, index: int) -> Instance:
            return instance

    assert read_instance(One(), 0, Counter())[0] is picture


def checked(folder: Path, text: str, *options: str) -> Any:
    return CliRunner().invoke(app, ["check", str(written(folder / "data.toml", text)), *options])


ENTRY = '[[set]]\nkind = "aic"\nroot = "."\nannotations = "labels.json"\nimages = "."\n'


def test_check_tells_that_all_is_well(tmp_path: Path) -> None:
    pictures(tmp_path, 3)
    result = checked(tmp_path, ENTRY)
    assert result.exit_code == 0, result.output
    assert result.output.splitlines()[1].split() == ["aic", "3", "3", "0", "0", "of", "3", "none"]
    assert result.output.splitlines()[-1] == "3 instances"
    assert "0 of 2  none" in checked(tmp_path, ENTRY, "--decode", "2").output


def test_check_tells_what_is_missing_and_broken(tmp_path: Path) -> None:
    table = pictures(tmp_path, 4)
    table.path(1).unlink()
    table.path(3).write_bytes(b"not a picture")
    lost = '[[set]]\nkind = "wflw"\nroot = "nowhere"\n'
    result = checked(tmp_path, ENTRY + lost)
    assert isinstance(result.exception, VerificationError)
    assert str(result.exception).startswith("Something is missing or broken in: aic, wflw.")
    lines = result.output.splitlines()
    assert lines[1].split() == ["aic", "4", "4", "1", "1", "of", "3", "none"]
    assert lines[2].strip() == f"There is no image {table.path(1)}."
    assert lines[3].strip().startswith(f"Cannot decode {table.path(3)} as an image")
    assert lines[4].startswith("wflw             cannot be opened: There are no annotations at")
    assert lines[5] == "4 instances"
    assert checked(tmp_path, ENTRY + lost, "--set", "wflw").output.count("\n") == 3
    refused = checked(tmp_path, ENTRY, "--set", "acc").exception
    assert isinstance(refused, BadInputError) and "Unknown set 'acc'; did you mean 'aic'?" in str(refused)
    assert "1 of 3" in checked(tmp_path, ENTRY, "--decode-all").output


def test_a_name_that_is_too_long_is_a_missing_image(tmp_path: Path) -> None:
    opened(tmp_path, "aic", document([annotation(14)], name="{}" + "a" * 300))
    assert checked(tmp_path, ENTRY).output.splitlines()[1].split()[1:4] == ["1", "1", "1"]


def test_a_keypoint_far_away_is_not_drawn(tmp_path: Path) -> None:
    far = annotation(14)
    far["keypoints"][0] = 1e20
    table = opened(tmp_path, "aic", document([far]))
    cv2.imwrite(str(table.path(0)), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    config = str(written(tmp_path / "data.toml", ENTRY))
    result = CliRunner().invoke(app, ["draw", config, "--set", "aic", "--out", str(tmp_path / "sheet.png")])
    assert result.exit_code == 0, result.exception


@pytest.mark.parametrize(
    ("name", "text"), [("points.npy", None), ("points.npy", b"\x93NUMPY"), ("set.json", b"{"), ("set.json", None)]
)
def test_a_damaged_cache_is_written_anew(tmp_path: Path, name: str, text: bytes | None) -> None:
    plain = opened(tmp_path, "aic", document([annotation(14)]))
    config = SetConfig("aic", tmp_path, annotations="labels.json", images=".")
    open_set(config, tmp_path / "cache")
    (damaged,) = (tmp_path / "cache").glob(f"*/{name}")
    damaged.unlink() if text is None else damaged.write_bytes(text)
    for _ in range(2):
        assert equal(open_set(config, tmp_path / "cache"), plain)


def test_the_cache_notices_another_camera_file_of_interhand(tmp_path: Path) -> None:
    config = interhand(tmp_path, [1] * 42)
    assert open_set(config, tmp_path / "cache")[0].keypoints[91].tolist() == [50, 60]
    times = {path: path.stat().st_mtime_ns for path in tmp_path.glob("a_[dj]*.json")}
    interhand(tmp_path, [1] * 42, (150, 160))
    for path, time in times.items():  # only the camera's file is another
        os.utime(path, ns=(time, time))
    assert open_set(config, tmp_path / "cache")[0].keypoints[91].tolist() == [150, 160]


def test_check_tells_what_was_left_out(tmp_path: Path) -> None:
    opened(tmp_path, "aic", document([annotation(14), annotation(14, iscrowd=1), annotation(14, bbox=[0, 0, 0, 0])]))
    assert "1 bad box, 1 crowd" in checked(tmp_path, ENTRY).output


def test_a_tile_shows_the_box_and_moves_the_keypoints_with_it(tmp_path: Path) -> None:
    table = pictures(tmp_path, 1)
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    target = table[0].keypoints[6]
    assert target.tolist() == grid(14)[0].tolist()
    picture[int(target[1]), int(target[0])] = 255
    view, keypoints, _ = tile(picture, table[0], 616)
    assert view.shape == (616, 616, 3)
    # 616 pixels show 1.4 times the box of 200x220: twice as large.
    assert np.linalg.norm(keypoints[5] - keypoints[6]) == pytest.approx(2 * np.linalg.norm(grid(14)[3] - grid(14)[0]))
    y, x = np.unravel_index(view[..., 0].argmax(), view.shape[:2])
    assert abs(x - keypoints[6, 0]) <= 1 and abs(y - keypoints[6, 1]) <= 1
    assert contact_sheet([view] * 3).shape == (1232, 1232, 3)


def test_draw_writes_a_sheet(tmp_path: Path) -> None:
    pictures(tmp_path, 5)
    config = str(written(tmp_path / "data.toml", ENTRY))
    out = tmp_path / "sheet.png"
    arguments = ["draw", config, "--set", "aic", "--out", str(out), "--count", "4", "--size", "100"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert f"4 of 5 instances of 'aic' -> {out} (300x200)" in result.output
    sheet = cv2.imread(str(out))
    assert sheet.shape == (200, 300, 3) and (sheet == (60, 220, 60)).all(axis=2).any(), "a visible keypoint is green"
    refused = CliRunner().invoke(app, [*arguments[:3], "wflw"]).exception
    assert isinstance(refused, BadInputError) and "Unknown set 'wflw'" in str(refused)
    refused = CliRunner().invoke(app, [*arguments[:4], "--out", "sheet.gif"]).exception
    assert isinstance(refused, BadInputError) and "give --out a name that ends with .jpg or .png" in str(refused)


def test_every_set_of_a_configuration_is_opened(tmp_path: Path) -> None:
    pictures(tmp_path, 2)
    text = ENTRY + ENTRY.replace("[[set]]", '[[set]]\nname = "again"\nevery = 2')
    tables = open_sets(read_config(written(tmp_path / "data.toml", text)))
    assert [(table.name, len(table), table[0].source) for table in tables] == [("aic", 2, "aic"), ("again", 1, "again")]
