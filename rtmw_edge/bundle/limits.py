"""The bounds of a bundle, each checked before the bytes that it bounds are read, allocated or handed to a parser.

They are several times what the largest network needs (RTMW-x in float: 370 MB), and a board survives them.
"""

from __future__ import annotations

MAX_MANIFEST_BYTES = 64 * 1024
"""`manifest.json` as text; a real one has about 3 KB."""

MAX_FILES = 16
"""Files beside the manifest; a real bundle has two or three."""

MAX_BUNDLE_BYTES = 1 << 30
"""All files of a bundle together, as they lie on disk or as an archive says that they unpack."""

MAX_ARCHIVE_INDEX_BYTES = 16 * 1024
"""The central directory of a .zip, which the zip reader loads whole before anyone can ask it anything."""

MAX_ARCHIVE_RATIO = 200
"""How many bytes an archive member may unpack to for each byte that it takes (deflate can reach 1032)..."""

RATIO_FREE_BYTES = 1 << 20
"""...unless it is no larger than this, where a bomb does no harm and an even picture is honest."""

MAX_NAME_LENGTH = 64
"""Characters of a file, variant, tensor or tool name."""

MAX_TEXT_LENGTH = 256
"""Characters of any other text in the manifest."""

MAX_TOOLS = 32
"""Entries in the manifest's list of tool versions."""

MAX_SIDE = 1024
"""Width and height of the crop, pixels."""

MAX_BINS = 8192
"""Bins of one coordinate axis."""

MAX_BATCH = 64
"""Crops that one run of the exported graph takes."""

MAX_CONVOLUTIONS = 10_000
"""Convolutions that the manifest may claim; RTMW-x has 165."""

MAX_GOLDEN_CROPS = 8
"""Golden crops in a bundle; the exporter writes 2 to 4."""

MAX_GOLDEN_BYTES = 64 << 20
"""All golden arrays together, unpacked."""
