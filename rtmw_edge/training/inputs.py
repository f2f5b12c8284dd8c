"""What a run is given beside its recipe: the data, and files of weights; and how a checkpoint knows them again."""

from __future__ import annotations

from pathlib import Path

from ..data.instances import InstanceSet, Joined
from ..data.sets import open_sets, read_config
from ..errors import BadInputError
from ..files import sha256_of
from ..models.variants import variant_named
from .checkpoint import Given
from .recipe import Recipe
from .stream import Annotated, Rendered, Source


def open_source(
    recipe: Recipe, data: Path | InstanceSet | None, backgrounds: Path | None, *, lanes: int, span: int
) -> tuple[int | None, Source]:
    """Samples of an epoch (None: endless) and where they come from: annotated sets, or rendered people."""
    if data is None:
        if recipe.epochs:
            raise BadInputError(
                f"The recipe counts {recipe.epochs} epochs, and rendered people have none; pass --data CONFIG with "
                "annotated sets, or --set steps=N."
            )
        width, height = variant_named(recipe.variant).input_size
        return None, Rendered(
            recipe.seed,
            recipe.reuse,
            (width * 5 // 4, height * 5 // 4),
            window=recipe.window,
            lanes=lanes,
            span=span,
            backgrounds=backgrounds,
        )
    if backgrounds is not None:
        raise BadInputError("Backgrounds are for rendered people, not for annotated sets; leave out --backgrounds.")
    if isinstance(data, Path):
        data = Joined(open_sets(read_config(data)))
    if not len(data):
        raise BadInputError("The data sets hold nobody to train on; see rtmw-edge data check CONFIG.")
    return len(data), Annotated(data, recipe.seed)


def described(source: Source, **files: Path | None) -> Given:
    """What decides a run beside its recipe, in words by the name of the option."""
    digests = {name: f"of SHA-256 {sha256_of(path)[:12]}" if path else None for name, path in files.items()}
    return {**source.given, **digests}
