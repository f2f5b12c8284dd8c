"""The contract of every engine: one runtime that runs one network on one device.

An engine takes uint8 BGR crops and gives float32 logits. Normalization and channel order are inside the exported graph,
and so is the batch: a graph of batch 4 gets 6 crops as 4 and 2 (filled up by the last crop, whose answers are dropped).

Two batches on half of the threads each are done sooner than one after the other on all threads, since no network keeps
all threads busy all the time. An engine of several `streams` therefore runs so many batches side by side.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ..bundle import ROLES, Bundle, Manifest
from ..errors import BadInputError, NotAvailableError, RtmwEdgeError, VerificationError, reason_of
from ..keypoints import NUM_KEYPOINTS
from .processor import cores

IN_INT8 = ("int8", "int8-mixed")
"""Precisions whose convolutions, or most of them, are computed in int8."""

Logits = tuple[NDArray[np.float32], ...]

Run = Callable[[NDArray[np.uint8]], Sequence[NDArray[np.float32]]]
"""Logits per axis of one batch of crops (batch,H,W,3)."""

SAME = 0.1
"""How far answers side by side may be from those one by one (relative rms). Right ones are equal, or 0.03 off in int8
by another order of sums; those of a runtime that mixes up its threads are 0.7 off and more."""

TINY = 1e-30

SMALL = 64 * 10**6
"""A model of fewer bytes is opened a second time without being asked, where there are two people and two threads."""


@dataclass(frozen=True)
class Model:
    """What a runner must know of the network that an engine runs.

    `input_size` is (width, height) of a crop in pixels; `bins` per axis in the order x, y[, z]; `z_range` in metres,
    None in 2D; `score` the (a, b) of the calibrated score, None where nobody fitted it.
    """

    variant: str
    target: str
    precision: str
    input_size: tuple[int, int]
    bins: tuple[int, ...]
    z_range: float | None
    score: tuple[float, float] | None

    @classmethod
    def of(cls, manifest: Manifest) -> Model:
        """The network that a bundle holds."""
        return cls(
            variant=manifest.variant,
            target=manifest.target,
            precision=manifest.precision,
            input_size=manifest.input_size,
            bins=manifest.bins,
            z_range=manifest.z_range,
            score=None if manifest.score is None else (manifest.score.a, manifest.score.b),
        )


@dataclass(frozen=True)
class Ran:
    """One convolution as it runs: its kernel as the runtime calls it, and whether that multiplies integers.

    `macs` are its multiply-accumulates in one run: output positions times weights, as the runtime holds them (some pad
    channels). 0 where the runtime does not tell.
    """

    kernel: str
    int8: bool
    macs: int


@dataclass(frozen=True)
class Description:
    """What really runs: the runtime, its version, the device, and its convolutions counted by kernel.

    `kernels` maps a kernel as the runtime calls it to how many convolutions it runs; `int8` is the part of them that
    multiplies integers. `threads` is None where the runtime does not tell: on other devices than the CPU, and in ONNX
    Runtime when nobody said how many. `macs` are the multiply-accumulates of all convolutions in one run, `int8_macs`
    those of the `int8` ones. `note` says why another kernel runs than the file would have, when one does.
    """

    runtime: str
    version: str
    device: str
    threads: int | None
    kernels: dict[str, int]
    int8: int
    macs: int = 0
    int8_macs: int = 0
    note: str = ""

    @classmethod
    def of(
        cls,
        runtime: str,
        version: str,
        device: str,
        threads: int | None,
        convolutions: Iterable[Ran],
        note: str = "",
    ) -> Description:
        """The description of a runtime that runs `convolutions`."""
        ran = list(convolutions)
        integer = [convolution for convolution in ran if convolution.int8]
        return cls(
            runtime,
            version,
            device,
            threads,
            kernels=dict(sorted(Counter(convolution.kernel for convolution in ran).items())),
            int8=len(integer),
            macs=sum(convolution.macs for convolution in ran),
            int8_macs=sum(convolution.macs for convolution in integer),
            note=note,
        )

    @property
    def convolutions(self) -> int:
        return sum(self.kernels.values())

    @property
    def int8_share(self) -> str:
        """In words: "79 of 80 convolutions in int8, 98.7 % of their multiply-accumulates"."""
        share = f", {100 * self.int8_macs / self.macs:.1f} % of their multiply-accumulates" if self.macs else ""
        return f"{self.int8} of {self.convolutions} convolutions in int8{share}"


class Engine(ABC):
    """One runtime running one network; closed by `close` or at the end of a `with`.

    >>> with OnnxEngine.open(bundle, "cpu", threads=2) as engine:    # doctest: +SKIP
    ...     x, y = engine.infer(crops)
    """

    runtime: str
    """The name that people know the runtime by."""

    streams = 1
    """How many batches run side by side, where there are so many."""

    devices: ClassVar[tuple[str, ...]]
    """The devices that this runtime can have; opening says whether one is there."""

    def __init__(self, model: Model, device: str, threads: int | None, *, batch: int, fixed: bool) -> None:
        """An engine that runs up to `batch` crops at once, or always exactly so many when the batch is `fixed`."""
        self.model = model
        self.device = device
        self._threads, self._batch, self._fixed = threads, batch, fixed

    @abstractmethod
    def run(self, crops: NDArray[np.uint8]) -> Sequence[NDArray[np.float32]]:
        """Logits per axis of one batch of crops (batch,H,W,3); called by `infer` only."""

    @abstractmethod
    def describe(self) -> Description:
        """Which device and kernels really ran, and how many convolutions in int8; may take as long as some runs."""

    def close(self) -> None:  # noqa: B027  (most runtimes let go when they are garbage)
        """Free what the runtime holds; the engine cannot be used afterwards."""

    def infer(self, crops: NDArray[np.uint8]) -> Logits:
        """Logits (N,133,bins) float32 per axis, in the order x, y[, z], of `crops` (N,H,W,3) uint8 BGR; N may be 0.

        Raises BadInputError for crops of another shape or type, VerificationError when the model's answer has another
        shape than its manifest says.
        """
        width, height = self.model.input_size
        if crops.dtype != np.uint8 or crops.shape[1:] != (height, width, 3):
            raise BadInputError(
                f"The crops are {crops.dtype} of shape {crops.shape}; {self.model.variant} takes uint8 BGR "
                f"(N, {height}, {width}, 3)."
            )
        if len(crops) == self._batch:  # one person, as a rule: the runtime's own arrays, without a copy
            return tuple(self._checked(self.run(np.ascontiguousarray(crops)), len(crops)))
        logits = tuple(np.empty((len(crops), NUM_KEYPOINTS, bins), np.float32) for bins in self.model.bins)
        self._infer(crops, logits, range(0, len(crops), self._batch))
        return logits

    def _infer(self, crops: NDArray[np.uint8], logits: Logits, starts: Sequence[int]) -> None:
        """Fill `logits` with the answers of the batches that begin at `starts`."""
        self._fill(self.run, crops, logits, starts)

    def _fill(self, run: Run, crops: NDArray[np.uint8], logits: Logits, starts: Iterable[int]) -> None:
        for start in starts:
            part = np.ascontiguousarray(crops[start : start + self._batch])
            count = len(part)
            if self._fixed and count < self._batch:
                part = np.concatenate([part, np.repeat(part[-1:], self._batch - count, axis=0)])
            for line, answer in zip(logits, self._checked(run(part), len(part)), strict=True):
                line[start : start + count] = answer[:count]

    def _checked(self, answers: Sequence[NDArray[np.float32]], count: int) -> Sequence[NDArray[np.float32]]:
        wanted = [(count, NUM_KEYPOINTS, bins) for bins in self.model.bins]
        if [math.prod(answer.shape) for answer in answers] != [math.prod(shape) for shape in wanted]:
            shapes = ", ".join(str(answer.shape) for answer in answers)
            raise VerificationError(
                f"{self.runtime} answers {shapes} where the manifest of {self.model.variant} says "
                f"{', '.join(map(str, wanted))}; export the bundle again."
            )
        return [answer.reshape(shape) for answer, shape in zip(answers, wanted, strict=True)]

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class SideBySide:
    """Runs batches at the same time, on one thread for each of `runs`; `proven` once their answers were checked."""

    proven = False

    def __init__(self, runs: Sequence[Run]) -> None:
        self._runs = runs
        self._pool = ThreadPoolExecutor(len(runs), "rtmw-edge stream")

    def share(self, starts: Sequence[int], answer: Callable[[Run, Sequence[int]], None]) -> None:
        """Deal `starts` out to the threads, which call `answer`; returns, or raises what one raised, when all ended."""
        shares = [starts[number :: len(self._runs)] for number in range(len(self._runs))]
        answers = [self._pool.submit(answer, run, share) for run, share in zip(self._runs, shares, strict=True)]
        try:
            wait(answers)
        finally:  # Ctrl-C breaks off waiting, not the threads, and the next round wants what they use
            wait(answers)
        for done in answers:
            done.result()

    def close(self) -> None:
        self._pool.shutdown()


class BundleEngine(Engine):
    """An engine for exported bundles. A runtime's file overrides `load`, `run` and `describe`, and may say `shared`."""

    shared: ClassVar[bool] = False
    """Whether several threads may run one model at once; else every stream opens its own."""

    def __init__(self, bundle: Bundle, device: str, threads: int | None, *, spin: bool, streams: int | None) -> None:
        super().__init__(Model.of(bundle.manifest), device, threads, batch=bundle.manifest.input.batch, fixed=True)
        self._input = bundle.manifest.input.name
        self._outputs = [output.name for output in bundle.manifest.outputs.values()]
        self._bundle, self._spin = bundle, spin
        self.streams = _streams(bundle, device, threads or cores(), streams)
        self._several = False
        self._side_by_side: SideBySide | None = None
        self.load(bundle)

    @classmethod
    def open(
        cls, bundle: Bundle, device: str, threads: int | None, *, spin: bool = True, streams: int | None = None
    ) -> BundleEngine:
        """Load the bundle's model on `device` with `threads` threads (None: all cores, as the runtime counts them).

        Without `spin` those that wait give their core to others; runtimes that have no such setting do as they do.
        `streams` batches run side by side where there are so many, each on its share of the threads; None: two, where
        there are two threads and the model is `SMALL`. What they need is opened with the second such call, as one
        picture alone is done sooner without, so `bundle` must stay open.

        Raises NotAvailableError when the runtime or the device is not there (never another device instead), and
        BadInputError when the runtime refuses the file, or for `streams` that cannot be.
        """
        return cls(bundle, device, threads, spin=spin, streams=streams)

    @abstractmethod
    def load(self, bundle: Bundle) -> None:
        """Load the model; called once, by the constructor."""

    def close(self) -> None:
        if self._side_by_side is not None:
            self._side_by_side.close()
            self._side_by_side = None

    def _runs(self) -> list[Run]:
        """`streams` ways to run a batch, each for a thread of its own and on its share of the threads."""
        threads = (self._threads or cores()) // self.streams

        def opened() -> Run:
            return type(self)(self._bundle, self.device, threads, spin=False, streams=1).run

        return [opened()] * self.streams if self.shared else [opened() for _ in range(self.streams)]

    def _infer(self, crops: NDArray[np.uint8], logits: Logits, starts: Sequence[int]) -> None:
        """Full rounds side by side; what is left, one after the other on all threads."""
        together = len(starts) - len(starts) % self.streams if self.streams > 1 else 0
        if together and not self._several:
            self._several, together = True, 0
        if together:
            if self._side_by_side is None:
                self._side_by_side = SideBySide(self._runs())
            self._side_by_side.share(starts[:together], lambda run, share: self._fill(run, crops, logits, share))
            if not self._side_by_side.proven:
                self._check_streams(crops, logits, starts[: self.streams])
                self._side_by_side.proven = True
        super()._infer(crops, logits, starts[together:])

    def check_names(self, there: Iterable[str]) -> None:
        """Raise ValueError when the graph has no tensor of a name that the manifest gives its input or an output."""
        missing = {self._input, *self._outputs}.difference(there)
        if missing:
            raise ValueError(f"it has no tensor '{min(missing)}'")

    def _check_streams(self, crops: NDArray[np.uint8], logits: Logits, starts: Sequence[int]) -> None:
        """Raise VerificationError unless the first round's answers are those of one batch after the other."""
        alone = tuple(np.zeros_like(line) for line in logits)
        super()._infer(crops, alone, starts)
        count = min(len(crops), starts[-1] + self._batch)
        for line, right in zip(logits, alone, strict=True):
            off = float(np.linalg.norm(line[:count] - right[:count]) / max(np.linalg.norm(right[:count]), TINY))
            if not off <= SAME:
                raise VerificationError(
                    f"{self.runtime} computes another answer when {self.streams} people run side by side ({off:.2g} "
                    "off, relative rms): let them run one by one, with --streams 1 (streams=1)."
                )


def _streams(bundle: Bundle, device: str, threads: int, asked: int | None) -> int:
    """How many batches run side by side; BadInputError where so many cannot."""
    if asked is None:
        files = [bundle.path(role).stat().st_size for role in ROLES[bundle.manifest.target]]
        return 2 if device == "cpu" and threads >= 2 and sum(files) < SMALL else 1
    if asked > 1 and device != "cpu":
        raise BadInputError(
            f"{asked} people cannot run side by side on '{device}': only a CPU is divided; "
            "export the bundle with --batch instead."
        )
    if not 1 <= asked <= threads:
        on = "1 thread" if threads == 1 else f"{threads} threads"
        raise BadInputError(f"{asked} people cannot run side by side on {on}: pass 1 to {threads}.")
    return asked


def refusals_of(runtime: str, bundle: Bundle, device: str) -> AbstractContextManager[None]:
    """`refusals` of the model in a bundle."""
    advice = "update the runtime, or export the bundle again with the installed version"
    return refusals(runtime, f"the model in {bundle.source}", device, advice)


@contextmanager
def refusals(runtime: str, model: str, device: str, advice: str) -> Iterator[None]:
    """Turn whatever a runtime raises while it loads or first runs a model into one sentence.

    On the CPU the file is to blame (BadInputError), elsewhere the driver may as well be (NotAvailableError).
    """
    try:
        yield
    except RtmwEdgeError:
        raise
    except Exception as error:
        where, kind = ("", BadInputError) if device == "cpu" else (f" on '{device}'", NotAvailableError)
        raise kind(f"{runtime} cannot run {model}{where} ({reason_of(error)}); {advice}.") from error
