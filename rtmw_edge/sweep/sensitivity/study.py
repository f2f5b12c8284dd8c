"""How much each convolution costs in int8: quantized alone, and left in float while all others are quantized.

Every network is the fake-quantized one that an export of `Table.leaving_in_float` is held to. Crops are cut once, the
float network is decoded once, and each network is run from its first block that differs only (`PartialRuns`), with fake
quantization at inference speed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ... import __version__
from ...errors import BadInputError
from ...evaluation.evaluate import Evaluator
from ...evaluation.intervals import Estimate, estimate, resamples
from ...quantization import Table
from ...quantization.fake import fake_quantize, weights_sha256
from ...quantization.inference import for_inference
from ...quantization.table import KINDS
from ...runtime.engine import Logits
from ...simcc import decode
from .crop_set import CropSet, average_precision
from .findings import Finding, FindingFile, Way
from .partial_run import PartialRuns, blocks_of, logits_of
from .proxy import FloatAnswers

if TYPE_CHECKING:
    from ...targets.rewrites import Deployable

PROXY_CROPS = 100
"""Crops that the proxy is taken over; AP takes all."""

Units = Mapping[str, Sequence[str]]
"""What is quantized or left in float together, by name: one convolution, or those of a block."""

Progress = Callable[[int, int, str], None]
"""Called with how many networks are done, of how many, and what comes next."""


@dataclass(frozen=True, eq=False)
class Subject:
    """What is studied: a float network, the table that quantizes it, the kinds of points that the target carries."""

    network: Deployable
    table: Table
    kinds: Sequence[str] = KINDS

    @property
    def quantized(self) -> list[str]:
        """The convolutions that the table quantizes, in order of definition."""
        return [name for name in self.network.convolutions() if name not in self.table.floats]

    def leaving_in_float(self, convolutions: Iterable[str]) -> Deployable:
        """The fake-quantized network, at inference speed, with these convolutions in float as well."""
        table = self.table.leaving_in_float(convolutions)
        return for_inference(fake_quantize(self.network, table, self.kinds))

    def units(self, *, by_block: bool = False) -> Units:
        """Every quantized convolution by itself, or those of every block together ("backbone.stage1")."""
        if not by_block:
            return {name: (name,) for name in self.quantized}
        blocks = blocks_of(self.network)
        units: dict[str, list[str]] = {}
        for name in self.quantized:
            units.setdefault(blocks[name], []).append(name)
        return units


class Study:
    """Measures networks of one subject on one set of crops, and remembers them in the file `path`.

    The proxy is taken over the first `proxy_crops` crops. With `proxy_only`, single units run on those alone and have
    no AP; the float, the int8 and mixed networks always have one.

    >>> study = Study(Subject(network, table), crops, Path("out/findings.jsonl"))       # doctest: +SKIP
    >>> study.run(study.subject.units())                                                # doctest: +SKIP
    """

    def __init__(
        self, subject: Subject, crops: CropSet, path: Path, *, proxy_crops: int = PROXY_CROPS, proxy_only: bool = False
    ) -> None:
        self.subject, self.crops = subject, crops
        self.proxy_crops, self.proxy_only = min(proxy_crops, len(crops)), proxy_only
        made_of = [weights_sha256(subject.network), subject.table.sha256, crops.sha256, list(subject.kinds)]
        settings = [self.proxy_crops, proxy_only, __version__]
        self.path = path
        self._file = FindingFile(path, hashlib.sha256(json.dumps([made_of, settings]).encode()).hexdigest())

    def finding(self, way: Way, unit: str = "") -> Finding | None:
        """What was found of a network, None where it was not measured yet."""
        return self._file.found.get((way, unit))

    def baseline(self, way: Way) -> Finding:
        """The float network (`Way.FLOAT`), or the one with everything quantized (`Way.INT8`)."""
        return self.finding(way) or self._whole(way, "", self._network(way))

    def mixed(self, floats: Sequence[str]) -> Finding:
        """The network with the convolutions `floats` in float and all others quantized."""
        unit = " ".join(sorted(floats))
        return self.finding(Way.MIXED, unit) or self._whole(Way.MIXED, unit, self.subject.leaving_in_float(floats))

    def run(self, units: Units, on_progress: Progress = lambda *_: None) -> None:
        """Measure every unit alone, then all but every unit; those in the file are not run again."""
        ways = (Way.ALONE, Way.ALL_BUT)
        missing = {way: [unit for unit in units if self.finding(way, unit) is None] for way in ways}
        total = sum(map(len, missing.values()))
        done = 0
        for way in ways:
            if not missing[way]:
                continue
            on_progress(done, total, f"{way}: the network before a change")
            crops = self.crops.crops[: self.proxy_crops] if self.proxy_only else self.crops.crops
            single, integer = self.subject.network, self.subject.leaving_in_float(())
            network, other = (single, integer) if way is Way.ALONE else (integer, single)
            runs = PartialRuns(network, crops)
            for unit in missing[way]:
                on_progress(done, total, f"{way} {unit}")
                self._keep(way, unit, runs.run(other, units[unit]), with_ap=not self.proxy_only)
                done += 1
        on_progress(total, total, "done")

    def ap_losses(self, floats: Sequence[str]) -> dict[str, Estimate]:
        """Points of AP that the mixed network loses against float, by part, with paired 95 % intervals over images."""
        single, mixed = (self._evaluator(net) for net in (self.subject.network, self.subject.leaving_in_float(floats)))
        weights = resamples(len(self.crops.items))
        before, after = average_precision(single.result()), average_precision(mixed.result())
        return {
            part: estimate(
                before[part] - after[part],
                100 * (single.resampled_ap(part, weights) - mixed.resampled_ap(part, weights)),
            )
            for part in before
        }

    @cached_property
    def _answers(self) -> FloatAnswers:
        count = self.proxy_crops
        found = FloatAnswers.of(logits_of(self.subject.network, self.crops.crops[:count]), self.crops.areas[:count])
        if not found.sure.any():
            raise BadInputError(
                f"The float network is sure of no keypoint in {self.crops.dataset}, so that nothing can be compared: "
                "give it trained weights."
            )
        return found

    def _network(self, way: Way) -> Deployable:
        return self.subject.network if way is Way.FLOAT else self.subject.leaving_in_float(())

    def _evaluator(self, network: Deployable) -> Evaluator:
        return self.crops.evaluator(*decode(logits_of(network, self.crops.crops)[:2]))

    def _whole(self, way: Way, unit: str, network: Deployable) -> Finding:
        return self._keep(way, unit, logits_of(network, self.crops.crops), with_ap=True)

    def _keep(self, way: Way, unit: str, logits: Logits, *, with_ap: bool) -> Finding:
        distances = self._answers.distances(tuple(line[: self.proxy_crops] for line in logits))
        ap = average_precision(self.crops.evaluator(*decode(logits[:2])).result()) if with_ap else {}
        finding = Finding(way, unit, distances, ap)
        self._file.add(finding)
        return finding
