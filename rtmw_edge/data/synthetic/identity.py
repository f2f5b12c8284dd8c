"""Who a person is: the body at rest with sex, age and skin; made in blocks, because one matrix product does many."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .body import Body
from .mesh import FloatArray

BLOCK = 32
"""Identities per block."""


@dataclass(frozen=True)
class Identity:
    """One body at rest: vertices (V,3), bone heads (B,3), finger tips (10,3) in metres; traits in 0..1."""

    vertices: FloatArray
    heads: FloatArray
    tips: FloatArray
    female: bool
    age: float
    darkness: float
    components: FloatArray


def draw_identities(body: Body, rng: np.random.Generator, count: int = BLOCK) -> list[Identity]:
    """`count` new people: women and men, one in six a child, all builds."""
    traits = _draw_phenotypes(body, rng, count)
    local = rng.normal(size=(count, body.local_components)).astype(np.float32)
    components = np.concatenate([body.phenotype_components(traits), local], 1)
    bodies = body.rest(components)
    column = {name: traits[:, i] for i, name in enumerate(body.phenotypes)}
    darkness = 0.15 * rng.random(count) + 0.55 * column["african"] + rng.normal(0, 0.18, count) + 0.1
    return [
        Identity(
            bodies.vertices[i],
            bodies.heads[i],
            bodies.tips[i],
            bool(column["gender"][i] > 0.5),
            float(column["age"][i]),
            float(np.clip(darkness[i], 0, 1)),
            components[i],
        )
        for i in range(count)
    ]


def average_adult(body: Body) -> FloatArray:
    """Components (1,R) of the one body at rest on which clothes, hair and keypoints are laid out."""
    traits = np.full((1, len(body.phenotypes)), 0.5)
    traits[0, body.phenotypes.index("age")] = 0.66
    return np.concatenate([body.phenotype_components(traits), np.zeros((1, body.local_components), np.float32)], 1)


def _draw_phenotypes(body: Body, rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    """Phenotypes (count,11): age 0.25 is a child of some six years, 0.62 and up an adult."""
    out = np.empty((count, len(body.phenotypes)))
    column = {name: i for i, name in enumerate(body.phenotypes)}
    female = rng.random(count) < 0.5
    out[:, column["gender"]] = np.where(female, rng.uniform(0.75, 1, count), rng.uniform(0, 0.25, count))
    child = rng.random(count) < 0.17
    out[:, column["age"]] = np.where(child, rng.uniform(0.25, 0.6, count), rng.uniform(0.62, 1, count))
    out[:, column["muscle"]] = rng.beta(2, 2, count)
    out[:, column["weight"]] = np.clip(rng.normal(0.52, 0.2, count), 0.02, 1)
    out[:, column["height"]] = np.clip(rng.normal(0.5, 0.2, count), 0, 1)
    out[:, column["proportions"]] = rng.beta(3, 2, count)
    out[:, column["cupsize"]] = rng.beta(2, 2, count)
    out[:, column["firmness"]] = rng.beta(2, 2, count)
    out[:, [column[name] for name in ("african", "asian", "caucasian")]] = rng.dirichlet([0.5, 0.5, 0.5], count)
    return out
