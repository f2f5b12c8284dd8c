"""Which joint of each data set is which of the 133; the tables are mappings.json (spec 5, cocktail14.json)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Mapping:
    """A set has `joints` joints an instance; its joint source[j] is keypoint target[j] of the 133. Both (J,)."""

    joints: int
    source: NDArray[np.int64]
    target: NDArray[np.int64]


@cache
def mapping_of(kind: str) -> Mapping:
    """The mapping of a kind of set: "wflw", "halpe". KeyError for a name that mappings.json does not have.

    >>> mapping_of("crowdpose").target[0]  # CrowdPose begins with the left shoulder, keypoint 5
    np.int64(5)
    """
    table = json.loads((resources.files(__package__) / "mappings.json").read_text())[kind]
    return Mapping(table["joints"], np.array(table["from"], np.int64), np.array(table["to"], np.int64))
