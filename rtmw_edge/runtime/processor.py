"""The processor: how it multiplies int8, and how much of it this process may use."""

from __future__ import annotations

import math
import os
import platform
import re
from pathlib import Path

INT8_FLAGS = ("avx2", "avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm", "sve")
"""Words in /proc/cpuinfo that say how a processor multiplies int8: x86 first, then ARM."""

EXACT_FLAGS = ("avx512_vnni", "avx_vnni", "amx_int8")
"""Of these, what gives an x86 processor sums of uint8 x int8 products in 32 bits; all before sum pairs in 16."""

CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""Microseconds of processor time and the period that they are of, or "max"."""


def int8_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> list[str]:
    """Those of INT8_FLAGS that the processor has; empty where nothing is known."""
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    words = {word for line in re.findall(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE) for word in line.split()}
    return [flag for flag in INT8_FLAGS if flag in words]


def has_vnni() -> bool:
    """Whether this is an x86 processor that sums uint8 x int8 products in 32 bits; False where that is unknown."""
    return _is_x86() and not set(EXACT_FLAGS).isdisjoint(int8_flags())


def int8_sums_overflow() -> bool:
    """Whether this is an x86 processor without VNNI, on which the fast uint8 x int8 kernels clip sums to 16 bits."""
    return _is_x86() and not has_vnni()


def lacks_dot_product() -> bool:
    """Whether this is an ARM processor without int8 dot products, as a Raspberry Pi 4; True where that is unknown."""
    return platform.machine().lower() in ("aarch64", "arm64") and "asimddp" not in int8_flags()


def cores() -> int:
    """Processors that this process may use; in a container with a quota as many as that is worth, rounded up."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = CPU_QUOTA.read_text(encoding="ascii").split()
        return max(1, min(there, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError, ZeroDivisionError):  # no file, or "max"
        return there


def _is_x86() -> bool:
    return platform.machine().lower() in ("x86_64", "amd64")
