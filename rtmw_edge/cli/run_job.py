"""One run of `rtmw-edge run`: from its sources to its sinks, and what the terminal hears of it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import typer

if TYPE_CHECKING:
    from ..runtime import Runner
    from ..runtime.boxes import BoxFile
    from ..runtime.frame_runner import FrameRunner
    from ..runtime.frames import Failure, Result, Sink, Source
    from ..runtime.painting import Painter


class RunJob:
    """One run from its sources to its sinks, and what is said about it."""

    def __init__(
        self, runner: Runner, sources: Sequence[Source], process: FrameRunner, paint: Painter, *, err: bool
    ) -> None:
        from ..runtime.meter import Meter
        from ..runtime.pipeline import Pipeline

        self._runner, self._sources, self._paint, self._err = runner, sources, paint, err
        self._pipeline = Pipeline(sources, process)
        self._meter = Meter()
        self._failures: list[Failure] = []
        self._told_s = 0.0
        self._goes_on = False

    def run(
        self,
        save: list[Path],
        json_file: str | None,
        show: bool,
        address: tuple[str, int] | None,
        boxes: BoxFile | None,
    ) -> None:
        """Run all sources to their end, or until somebody stops it; whatever happens, what was done is kept."""
        from ..runtime.pipeline import give_way
        from ..signals import StopSignals

        keepers = self._keepers(save, json_file)
        sinks = list(keepers)
        self._goes_on = bool(keepers or show or address)
        signals = StopSignals(self._pipeline.stop)
        try:
            sinks += self._watchers(show, address)
            with signals, self._pipeline:
                give_way()
                for result in self._pipeline:
                    self._deliver(result, sinks, boxes)
                ended = not self._pipeline.stopped
        finally:
            told, problem = _close(sinks)
        if problem is not None:
            raise problem
        videos = [source.origin.name for source in self._sources if source.origin.moving]
        if boxes is not None and ended and (unmet := boxes.frames_not_asked_for(videos)):
            more = f" and {len(unmet) - 1} more" if len(unmet) > 1 else ""
            self._say(f"{boxes.path} has boxes for {unmet[0]}{more}, which did not come")
        self._conclude(told)
        if signals.asked and not any(source.origin.live for source in self._sources):
            self._say("stopped before the end" + ("; what was done is saved" if keepers else ""))
            raise typer.Exit(130)

    def _keepers(self, save: list[Path], json_file: str | None) -> list[Sink]:
        from ..errors import BadInputError
        from ..runtime.sinks import Document, JsonLines, open_sink

        places = [path.resolve() for path in [*save, *([Path(json_file)] if json_file not in (None, "-") else [])]]
        for path in places:
            if places.count(path) > 1:
                raise BadInputError(f"Two outputs have the name '{path}': give one of them another.")
        sinks = [open_sink(target, self._runner, self._sources) for target in save]
        model, runtime = self._runner.model, self._runner.engine.runtime
        if json_file == "-":
            if sys.__stdout__ is None:  # as it was when the process began
                raise BadInputError("--json - writes to standard output, which is closed: name a file.")
            sinks.append(JsonLines(sys.stdout.buffer, model, runtime))
        elif json_file is not None:
            kind = JsonLines if json_file.lower().endswith(".jsonl") else Document
            sinks.append(kind(Path(json_file), model, runtime))
        return sinks

    def _watchers(self, show: bool, address: tuple[str, int] | None) -> list[Sink]:
        from ..runtime.serve import Served, Server
        from ..runtime.sinks import Window

        sinks: list[Sink] = [Window(self._pipeline.stop)] if show else []
        if address is not None:
            served = Served(self._runner.model, self._runner.describe(), self._meter, lambda: self._pipeline.dropped)
            server = Server(address, served)
            sinks.append(server)
            open_to_all = ", for everybody who can reach this machine" if server.open_to_all else ""
            self._say(f"watch: {server.url}{open_to_all}")
        return sinks

    def _deliver(self, result: Result | Failure, sinks: list[Sink], boxes: BoxFile | None) -> None:
        """Say what came, and hand it to the sinks."""
        import time

        from ..runtime.frames import Annotated as Drawn
        from ..runtime.frames import Failure

        start = time.perf_counter()
        if isinstance(result, Failure):
            self._failures.append(result)
            self._note("")
            self._echo(f"error: {result.reason}", err=True)
            _hand(sinks, lambda sink: sink.fail(result))
        else:
            drawn = Drawn(result, self._paint)
            _hand(sinks, lambda sink: sink.write(drawn))
            self._meter.add(result, output=1000 * (time.perf_counter() - start))
            self._tell(result, boxes)

    def _tell(self, result: Result, boxes: BoxFile | None) -> None:
        """A line for each image; for moving sources one that changes, where somebody looks at it."""
        import time

        people = "1 person" if len(result.poses) == 1 else f"{len(result.poses)} people"
        if not result.frame.origin.moving:
            note = "" if result.boxed or boxes is None else f"  (not in {boxes.path})"
            self._say(f"{result.frame.name}  {people}  {_spent(result):.1f} ms{note}")
        elif sys.stderr.isatty() and time.monotonic() - self._told_s > 0.5:
            self._told_s = time.monotonic()
            self._note(f"{result.frame.name}  {people}  {self._meter.fps:.1f} frames a second")

    def _note(self, text: str) -> None:
        if self._told_s:
            self._echo(f"\r{text:<79}\r", err=True, nl=False)

    def _conclude(self, told: list[str]) -> None:
        """The summary; raises BadInputError when a source could not be used."""
        from ..errors import BadInputError

        self._note("")
        meter, runtime, device = self._meter, self._runner.engine.runtime, self._runner.engine.device
        moving = any(source.origin.moving for source in self._sources)
        if meter.frames and moving:
            stages = ", ".join(f"{stage} {ms:.1f}" for stage, ms in meter.stages().items())
            dropped = f"; {self._pipeline.dropped} frames dropped" if self._pipeline.dropped else ""
            speed = "1 frame" if meter.frames == 1 else f"{meter.frames} frames, {meter.mean_fps:.1f} a second"
            self._say(f"{speed}; {stages} ms (medians) on {runtime}, {device}{dropped}")
        elif meter.frames:
            count = "1 image" if meter.frames == 1 else f"{meter.frames} images"
            stages_ms = meter.stages()
            spent = stages_ms["pose"] + stages_ms.get("detect", 0.0)
            self._say(f"{count}, {spent:.1f} ms each (median) on {runtime}, {device}")
        for line in told:
            self._say(line)
        if meter.frames and not self._goes_on:
            self._say("Nothing was kept: add --save DIR for pictures, --json FILE for the poses.")
        if self._failures:
            names = ", ".join(Path(failure.name).name for failure in self._failures[:10])
            names += ", ..." if len(self._failures) > 10 else ""
            others = "; what was there is done" if moving else "; the others are done"
            what = "sources could not be used to their end" if moving else "images could not be used"
            raise BadInputError(
                f"{len(self._failures)} of {len(self._sources)} {what}: {names}{others if meter.frames else ''}."
            )

    def _say(self, text: str) -> None:
        self._echo(text, err=self._err)

    def _echo(self, text: str, *, err: bool, nl: bool = True) -> None:
        """Say it; where nobody hears it any more (`| head`), what else the run writes goes on."""
        try:
            typer.echo(text, err=err, nl=nl)
        except BrokenPipeError:
            if not self._goes_on:
                raise
            _give_up(sys.stderr if err else sys.stdout)


def _hand(sinks: list[Sink], give: Callable[[Sink], None]) -> None:
    """Give every sink its turn; one that fails is dropped, and its error raised.

    Where nobody reads standard output any more (`| head`), the other sinks go on.
    """
    for sink in list(sinks):
        try:
            give(sink)
        except BaseException as error:
            sinks.remove(sink)
            sink.discard()
            if not (isinstance(error, BrokenPipeError) and sinks):
                raise
            _give_up(sys.stdout)


def _close(sinks: list[Sink]) -> tuple[list[str], Exception | None]:
    """Finish every sink, also after one that cannot: what they tell, and the first trouble."""
    from ..errors import RtmwEdgeError

    told: list[str] = []
    problem: Exception | None = None
    for sink in sinks:
        try:
            told += sink.close()
        except (RtmwEdgeError, OSError) as error:
            sink.discard()
            problem = problem or error
    return told, problem


def _give_up(stream: TextIO) -> None:
    """Let what is still to be written to `stream` go nowhere: what is buffered would break the exit."""
    import os

    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _spent(result: Result) -> float:
    """Milliseconds from image to poses."""
    return result.ms["pose"] + result.ms.get("detect", 0.0)
