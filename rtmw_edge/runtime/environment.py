"""What a figure was measured with: machine, system, versions; and how hot and how fast the processor was.

Times of two machines, or of two versions of a runtime, are not comparable: every result file holds this record.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .. import __version__
from .machine import distributions, installed
from .processor import int8_flags

PACKAGES = (
    "numpy",
    "opencv-python-headless",
    "opencv-python",
    *distributions(),
)
"""Distributions that change a time or a result; those that are not installed are left out of the record."""

ROOT = Path("/")
VCGENCMD_SECONDS = 2.0


@dataclass(frozen=True)
class Sensors:
    """What the board tells at one moment; None and {} where it does not.

    `temperature_c` by sensor, `frequency_mhz` of every core, `throttled` the word of Raspberry Pi's firmware
    ("0x0": never since it was switched on).
    """

    temperature_c: dict[str, float]
    frequency_mhz: list[float] | None
    throttled: str | None


def environment(root: Path = ROOT) -> dict[str, str]:
    """Machine, system and versions as words; `root` is where /proc, /sys and /etc lie.

    >>> environment()["rtmw-edge"]      # doctest: +SKIP
    '0.1.0'
    """
    facts = {
        "rtmw-edge": __version__,
        "Python": platform.python_version(),
        "system": platform.platform(),
        "board": _text(root / "proc/device-tree/model"),
        "processor": _processor(root),
        "cores": str(os.cpu_count()),
        "int8 instructions": ", ".join(int8_flags(root / "proc/cpuinfo")),
        "memory": _memory(root),
        "frequency governor": _text(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        **{name: version or "" for name, version in installed(*PACKAGES).items()},
    }
    return {name: value for name, value in facts.items() if value}


def differences(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    """What two environments do not share, one line each: "onnxruntime: 1.32.0 against 1.31.0"."""
    names = list(dict.fromkeys([*one, *other]))
    return [
        f"{name}: {one.get(name, 'none')} against {other.get(name, 'none')}"
        for name in names
        if one.get(name) != other.get(name)
    ]


def read_sensors(root: Path = ROOT) -> Sensors:
    """Temperatures, frequencies and throttling now, from Linux's /sys and, where it is there, vcgencmd."""
    temperatures: dict[str, float] = {}
    for zone in sorted((root / "sys/class/thermal").glob("thermal_zone*")):
        degrees = _number(zone / "temp")
        if degrees is not None:
            temperatures[f"{_text(zone / 'type') or 'zone'} ({zone.name})"] = degrees / 1000
    cores = sorted((root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_cur_freq"), key=_core)
    frequencies = [value / 1000 for value in map(_number, cores) if value is not None]
    return Sensors(temperatures, frequencies or None, _throttled())


def _core(path: Path) -> int:
    return int(path.parts[-3].removeprefix("cpu"))


def _processor(root: Path) -> str:
    lines = _text(root / "proc/cpuinfo").splitlines()
    name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    return name or platform.processor() or platform.machine()


def _memory(root: Path) -> str:
    found = re.search(r"^MemTotal:\s*(\d+) kB", _text(root / "proc/meminfo"), re.MULTILINE)
    return f"{int(found[1]) * 1024 / 1e9:.1f} GB" if found else ""


def _throttled() -> str | None:
    command = shutil.which("vcgencmd")
    if command is None:
        return None
    try:
        done = subprocess.run([command, "get_throttled"], capture_output=True, text=True, timeout=VCGENCMD_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip().partition("=")[2] or None


def _number(path: Path) -> float | None:
    try:
        return float(_text(path))
    except ValueError:
        return None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").replace("\0", "").strip()
    except OSError:
        return ""
