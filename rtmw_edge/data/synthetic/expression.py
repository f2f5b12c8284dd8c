"""Facial expressions: amounts of the 52 facial actions (the ARKit names) of one face."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .seeds import pick

_EXPRESSIONS = {
    "neutral": 0.28,
    "smile": 0.16,
    "laugh": 0.1,
    "talk": 0.16,
    "frown": 0.07,
    "surprise": 0.07,
    "shout": 0.05,
    "pucker": 0.04,
    "any": 0.07,
}
# Amounts at full strength; a name without side moves both.
_ACTIONS: dict[str, dict[str, float]] = {
    "smile": {"mouthSmile": 0.8, "cheekSquint": 0.4, "mouthUpperUp": 0.2},
    "laugh": {"mouthSmile": 0.8, "jawOpen": 0.35, "cheekSquint": 0.5, "mouthUpperUp": 0.4, "eyeSquint": 0.4},
    "frown": {"browDown": 0.8, "mouthFrown": 0.7, "noseSneer": 0.2},
    "surprise": {"browInnerUp": 0.8, "browOuterUp": 0.8, "jawOpen": 0.45, "eyeWide": 0.6},
    "shout": {"jawOpen": 0.9, "mouthUpperUp": 0.4, "mouthLowerDown": 0.4, "browDown": 0.4},
    "pucker": {"mouthPucker": 0.8},
}
_TALKING = ("mouthFunnel", "mouthStretch", "mouthUpperUp", "mouthLowerDown")
_GAZES = ("In", "Out", "Up", "Down", "ahead", "ahead")


def draw_expression(index: dict[str, int], rng: np.random.Generator) -> NDArray[np.float32]:
    """Amounts (52,) in 0..1 of the facial actions, placed by their `index`: an expression, a blink and a gaze."""
    amounts = np.zeros(len(index), np.float32)

    def add(action: str, amount: float) -> None:
        for name in (action, f"{action}Left", f"{action}Right"):
            if name in index:
                amounts[index[name]] = min(max(amounts[index[name]] + amount * rng.uniform(0.85, 1.1), 0), 1)

    expression = pick(rng, _EXPRESSIONS)
    strength = rng.uniform(0.3, 1)
    for action, amount in _ACTIONS.get(expression, {}).items():
        add(action, amount * strength)
    if expression == "talk":
        add("jawOpen", rng.uniform(0.05, 0.35))
        add(_TALKING[rng.integers(len(_TALKING))], rng.uniform(0.1, 0.5))
    elif expression == "any":
        for i in rng.choice(len(index), 6, replace=False):
            amounts[i] = max(amounts[i], rng.uniform(0, 0.6))
    add("eyeBlink", rng.uniform(0.4, 1) if rng.random() < 0.12 else rng.uniform(0, 0.15))
    gaze = _GAZES[rng.integers(len(_GAZES))]
    if gaze in ("Up", "Down"):
        add(f"eyeLook{gaze}", rng.uniform(0, 0.6))
    elif gaze != "ahead":
        inward, outward = ("Left", "Right") if gaze == "In" else ("Right", "Left")
        amount = rng.uniform(0, 0.7)
        amounts[index[f"eyeLookIn{inward}"]] = amounts[index[f"eyeLookOut{outward}"]] = amount
    amounts[index["tongueOut"]] = 0
    return amounts
