"""What `rtmw-edge validate` compares with: PyTorch, a float ONNX file of the same weights, or another bundle."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..bundle import Manifest
    from ..evaluation.validate import Contender

REFERENCES = ("torch:cpu", "torch:cuda", "onnx:cpu", "onnx:cuda")
"""The references that are made from the bundle's own weights."""


@contextmanager
def open_reference(
    name: str,
    judged: Manifest,
    bundle: str,
    *,
    weights: Path | None,
    threads: int | None = None,
    on_step: Callable[[str], None] = lambda _: None,
) -> Iterator[tuple[Contender, Path | None]]:
    """The reference called `name` for the bundle `bundle`, whose manifest is `judged`; and the file of its weights.

    "torch:..." and "onnx:..." run the weights in `weights`, else the shipped or fetched ones of the variant; they must
    be those that the bundle was exported from. Anything else is another bundle, which runs on the CPU; its weights are
    None when it is not in float or when they are not here.

    Raises BadInputError for a name that is none and for other weights, NotAvailableError for a missing runtime or
    device.
    """
    import tempfile

    from ..errors import BadInputError, unknown
    from ..evaluation.validate import Contender
    from ..runtime import load, torch_runner

    kind, _, device = name.partition(":")
    if name not in REFERENCES:
        if device and not Path(name).exists():
            raise unknown("reference", name, REFERENCES)
        if weights is not None:
            raise BadInputError(f"--weights goes with {', '.join(REFERENCES)}; the bundle {name} has its own.")
        with load(name, threads=threads) as runner:
            assert runner.bundle is not None
            found = runner.bundle.manifest
            yield Contender(Path(name).name, runner, found.weights_sha256), _float_weights(found)
        return
    file = _own_weights(name, judged, bundle, weights)
    if kind == "torch":
        on_step(f"loading {file.name}")
        with torch_runner(judged.variant, weights=file, device=device, threads=threads) as runner:
            yield Contender(name, runner, judged.weights_sha256), file
        return
    from ..targets.export import export

    with tempfile.TemporaryDirectory(prefix="rtmw-edge-") as folder:
        made = export(judged.variant, "onnx", "fp32", Path(folder) / "reference", weights=file, on_step=on_step)
        with load(made, device=device, threads=threads) as runner:
            yield Contender(name, runner, judged.weights_sha256), file


def _own_weights(name: str, judged: Manifest, bundle: str, weights: Path | None) -> Path:
    """The file of the weights that the bundle was exported from; BadInputError when it is another."""
    from ..errors import BadInputError
    from ..files import sha256_of
    from ..models.weights import find

    file = find(judged.variant, weights)
    found = sha256_of(file)
    if found != judged.weights_sha256:
        raise BadInputError(
            f"{bundle} was exported from other weights (sha256 {judged.weights_sha256[:12]}...) than {name} would run: "
            f"{file} has {found[:12]}.... Pass the file that it was exported from with --weights."
        )
    return file


def _float_weights(manifest: Manifest) -> Path | None:
    """The weights of a float bundle, where the very same are shipped or fetched."""
    from ..errors import BadInputError
    from ..files import sha256_of
    from ..models.weights import find

    try:
        file = find(manifest.variant)
    except BadInputError:
        return None
    return file if manifest.precision == "fp32" and sha256_of(file) == manifest.weights_sha256 else None
