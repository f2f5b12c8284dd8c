"""The stream: a sample hangs on its position alone, whoever makes it."""

import os
import pickle
import signal
import subprocess
import sys
from collections import Counter
from types import SimpleNamespace
from typing import ClassVar

import cv2
import numpy as np
import pytest
import torch
from small_runs import Noise, forget, small_recipe

from rtmw_edge.data.instances import Instance
from rtmw_edge.errors import BadInputError
from rtmw_edge.training import stream
from rtmw_edge.training.stream import Annotated, Crops, Rendered, positions


@pytest.fixture(autouse=True)
def _forget_the_tiny_variants():
    yield
    forget()


class Counted:
    """A renderer whose people tell their index, and that counts what it draws."""

    drawn: ClassVar[Counter[int]] = Counter()

    def __init__(self, split, seed, backgrounds=None):
        pass

    def person(self, index, size):
        self.drawn[index] += 1
        person = SimpleNamespace(
            keypoints=np.zeros((133, 2), np.float32),
            visible=np.full(133, 2, np.uint8),
            metres=np.ones((133, 3), np.float32),
            box=np.array([1, 1, 9, 9], np.float32),
        )
        return SimpleNamespace(image=np.full((4, 4, 3), index, np.int64), people=(person,), camera=np.eye(3))


def indices(source, positions):
    return [int(source(position, Counter())[0][0, 0, 0]) for position in positions]


def test_rendered_people_hang_on_the_position_alone(monkeypatch):
    monkeypatch.setattr(stream, "Renderer", Counted)

    def fresh():
        return Rendered(7, 3.0, (240, 320), window=1024, lanes=2, span=16)

    straight = indices(fresh(), range(3000))
    assert min(straight) == 0, "of a window that is larger than what there is yet, nobody before the first"
    behind = fresh()
    assert indices(behind, [2999, 5, 1500, 0]) == [straight[p] for p in (2999, 5, 1500, 0)]
    assert indices(fresh(), range(2000, 2100)) == straight[2000:2100]
    carried = pickle.dumps(behind)
    assert len(carried) < 1000  # what has been rendered stays here: workers are spawned one after the other
    assert indices(pickle.loads(carried), [2999, 5]) == [straight[p] for p in (2999, 5)]
    assert indices(Rendered(8, 3.0, (240, 320), window=1024, lanes=2, span=16), range(3000)) != straight
    lanes = [{straight[p] for p in range(3000) if p // 16 % 2 == lane} for lane in (0, 1)]
    assert not lanes[0] & lanes[1]


def test_a_worker_of_one_lane_renders_every_person_once_and_reuses_it(monkeypatch):
    monkeypatch.setattr(stream, "Renderer", Counted)
    Counted.drawn = Counter()
    uses = Counter(indices(Rendered(0, 6.0, (240, 320), window=128, lanes=1, span=32), range(6000)))
    assert set(Counted.drawn.values()) == {1}
    assert max(Counted.drawn) == 1000 + stream.FIRST - 1
    # The first ones are used more often, while the window is small; then it is `reuse`.
    assert np.mean([uses[index] for index in range(200, 900)]) == pytest.approx(6.0, abs=0.3)


def test_people_are_new_every_time_without_reuse(monkeypatch):
    monkeypatch.setattr(stream, "Renderer", Counted)
    source = Rendered(0, 1.0, (240, 320), window=1024, lanes=1, span=4)
    assert indices(source, range(500)) == list(range(500))
    assert len(source._kept[0]) <= stream.FIRST + 2  # nobody is looked at again


def test_annotated_people_come_once_an_epoch_in_a_new_order():
    source = Annotated(Noise(), seed=3)
    boxes = [source(p, Counter())[0].tobytes() for p in range(80)]
    assert len(set(boxes[:40])) == 40 and set(boxes[:40]) == set(boxes[40:])
    assert boxes[:40] != boxes[40:]
    assert Annotated(Noise(), seed=3)(50, Counter())[0].tobytes() == boxes[50]
    assert Annotated(Noise(), seed=4)(50, Counter())[0].tobytes() != boxes[50]


def test_ranks_and_passes_share_a_step_without_gap_or_double():
    for ranks, micro in ((1, 8), (2, 4), (2, 2), (4, 2)):
        taken = [list(positions(16, 48, micro, rank, ranks)) for rank in range(ranks)]
        count = 8 // micro // ranks  # passes a step of 8 samples
        for step in range(4):
            step_positions = [p for rank in taken for batch in rank[step * count : (step + 1) * count] for p in batch]
            assert sorted(step_positions) == list(range(16 + 8 * step, 24 + 8 * step))


def test_the_last_samples_are_augmented_as_the_second_stage(tmp_path):
    early = ["augmentation.dropout=1", "augmentation.colour=0", "augmentation.grey=0"]
    late = ["late_augmentation.dropout=0", "late_augmentation.colour=0", "late_augmentation.grey=0"]
    recipe = small_recipe("steps=10", *early, *late)
    white = np.full((100, 80, 3), 255, np.uint8)

    class White(Noise):
        def __getitem__(self, index):
            labels = super().__getitem__(index)
            return Instance(**{**vars(labels), "image": white, "box": np.array([30, 40, 50, 60], np.float32)})

    crops = Crops(Annotated(White(), 0), recipe, (64, 96), late_from=20)
    assert {int(crops[p][0].min()) for p in range(20)} == {0}
    assert {int(crops[p][0].min()) for p in range(20, 40)} == {255}
    crop, points, weights, skipped = crops[0]
    assert crop.shape == (96, 64, 3) and crop.dtype == torch.uint8 and int(skipped) == 0
    assert points.shape == weights.shape == (133, 2)
    assert set(weights.unique().tolist()) <= {0.0, 0.5, 1.0}


def test_chance_is_of_the_seed_and_the_position():
    class Same(Noise):
        def __len__(self):
            return 1

    def crop(position, seed):
        return Crops(Annotated(Same(), 0), small_recipe("steps=1", f"seed={seed}"), (64, 96), 100)[position][0]

    assert torch.equal(crop(3, 1), crop(3, 1))
    assert not torch.equal(crop(3, 1), crop(4, 1)) and not torch.equal(crop(3, 1), crop(3, 2))


def test_hidden_joints_weigh_what_the_recipe_says():
    class Hidden(Noise):
        def __getitem__(self, index):
            return Instance(**{**vars(super().__getitem__(index)), "visible": np.full(133, 1, np.uint8)})

    for weight in (0.5, 0.25):
        recipe = small_recipe("steps=1", f"occluded_weight={weight}")
        crops = Crops(Annotated(Hidden(), 0), recipe, (64, 96), 100)
        assert float(crops[0][2].max()) == weight
        assert float(crops.plan(0, Hidden()[0]).weights.max()) == weight


def test_rendered_people_are_labelled_as_annotators_would_label_them(monkeypatch):
    class Hidden(Counted):
        def person(self, index, size):
            found = super().person(index, size)
            found.people[0].visible[91:112] = 1  # a hand that is not seen, and has a label all the same
            return found

    monkeypatch.setattr(stream, "Renderer", Hidden)
    source = Rendered(0, 1.0, (240, 320), window=4, lanes=1, span=4)
    visible = source(0, Counter())[1].visible
    assert not visible[91:112].any() and (visible[:91] == 2).all()


def test_an_image_that_cannot_be_read_is_passed_over_and_counted(tmp_path):
    class OneBroken(Noise):
        def __getitem__(self, index):
            path = tmp_path / f"{index}.png"
            if index != 7 and not path.exists():
                cv2.imwrite(str(path), super().__getitem__(index).image)
            return Instance(**{**vars(super().__getitem__(index)), "image": path})

    crops = Crops(Annotated(OneBroken(), 0), small_recipe("steps=1"), (64, 96), late_from=100)
    assert sum(int(crops[p][3]) for p in range(40)) == 1


def test_what_making_a_sample_raises_comes_out_of_the_stream(tmp_path):
    """A run that ended there without a word would look like one that is over."""

    class Broken(Crops):
        def __getitem__(self, position):
            if position == 5:
                raise BadInputError("The picture is damaged.")
            return super().__getitem__(position)

    crops = Broken(Annotated(Noise(), 0), small_recipe("steps=1"), (64, 96), late_from=100)
    made = stream.batches(crops, [[0, 1], [2, 3], [4, 5]], workers=0, pin=False)
    assert [len(next(made)[1]) for _ in range(2)] == [2, 2]
    with pytest.raises(BadInputError, match=r"^The picture is damaged\.$"):
        next(made)


def test_a_signal_to_the_whole_process_group_leaves_the_workers_to_the_main_process():
    """`timeout`, and batch systems, send SIGTERM to workers too; they must live until the main process has its step."""
    code = (
        "import os, signal\n"
        "from rtmw_edge.training.stream import _set_up_worker\n"
        "_set_up_worker(0)\n"
        "os.kill(os.getpid(), signal.SIGTERM)\n"
        "os.kill(os.getpid(), signal.SIGINT)\n"
        "print('alive')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "alive"), done.stderr


def test_no_signal_reaches_a_worker_before_it_has_been_set_up():
    class Masked(Noise):
        def __getitem__(self, index):
            blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
            shade = 255 if set(stream.STOPPING) <= blocked else 0
            return Instance(**{**vars(super().__getitem__(index)), "image": np.full((100, 80, 3), shade, np.uint8)})

    plain = [f"augmentation.{name}=0" for name in ("colour", "grey", "blur", "median_blur", "dropout", "rotation")]
    crops = Crops(Annotated(Masked(), 0), small_recipe("steps=1", *plain), (64, 96), late_from=100)
    cv2.setNumThreads(2)
    cv2.GaussianBlur(np.zeros((2000, 2000, 3), np.uint8), (9, 9), 3)  # its threads run, which a fork would lose
    (batch,) = stream.batches(crops, [[0, 1, 2, 3]], workers=1, pin=False)
    assert int(batch[0].max()) == 255
    assert not set(stream.STOPPING) & signal.pthread_sigmask(signal.SIG_BLOCK, ())


@pytest.mark.parametrize("asked", [None, "3"])
def test_workers_have_one_thread_of_numpy_and_later_processes_their_own(monkeypatch, asked):
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    if asked:
        monkeypatch.setenv("OPENBLAS_NUM_THREADS", asked)
    with stream._starting_workers():
        assert os.environ["OPENBLAS_NUM_THREADS"] == (asked or "1")
    assert os.environ.get("OPENBLAS_NUM_THREADS") == asked
