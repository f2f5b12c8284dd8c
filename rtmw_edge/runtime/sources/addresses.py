"""Addresses of streams as they may be shown and written."""

from __future__ import annotations

import re

SECRETS = re.compile(
    r"(?i)((?<![a-z])(?:user|username|login|loginuse|loginpas|pas|pass|passwd|password|pwd|pw|token|auth|key|apikey"
    r"|api_key|secret))=(?:(?!_[a-z]+=)[^&/?#])*"
)
"""What cameras take in their paths and queries."""


def without_password(address: str) -> str:
    """An address as it may be shown and written: without user and password, also those in its path or query."""
    scheme, mark, rest = address.partition("://")
    if not mark:
        return address
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    port = authority.rpartition("]")[2].partition(":")[2]
    if "@" in authority:
        rest = rest[authority.rindex("@") + 1 :]
    elif port and not port.isdecimal():  # what looks like a port is a password with one of these signs in it
        rest = rest.rpartition("@")[2]
    shown = SECRETS.sub(r"\1=...", rest)
    return f"{scheme}://{shown}"
