"""What ships with the package: small files, tables made for exactly these weights, cards of the same figures."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from rtmw_edge.quantization import Table  # noqa: E402
from rtmw_edge.quantization.fake import check_table  # noqa: E402
from rtmw_edge.targets.export import load_deployable  # noqa: E402

from rtmw_edge import bundle  # noqa: E402
from rtmw_edge.files import sha256_of  # noqa: E402
from rtmw_edge.models import VARIANTS, score_calibration  # noqa: E402
from rtmw_edge.models.weights import FOLDER, embedded, shipped_table  # noqa: E402
from rtmw_edge.runtime.loading import builtin_path  # noqa: E402

SHIPPED = [name for name in VARIANTS if embedded(name)]


def test_a_2d_and_a_3d_model_ship() -> None:
    assert SHIPPED == ["rtmw-n-256x192", "rtmw3d-n-256x192"]


@pytest.mark.parametrize("name", SHIPPED)
def test_weights_are_small_and_their_table_is_for_them(name: str) -> None:
    weights, table = embedded(name), shipped_table(name, "common")
    assert weights is not None and table is not None
    assert weights.stat().st_size < 12_000_000
    loaded = Table.load(table)
    assert loaded.variant == name
    check_table(load_deployable(name, weights), loaded)  # refuses a table for other weights


@pytest.mark.parametrize("name", SHIPPED)
def test_the_card_has_the_calibrated_score_that_is_used(name: str) -> None:
    score = score_calibration(name)
    assert score is not None
    card = (FOLDER / f"{name}.md").read_text(encoding="utf-8")
    assert f"1 / (1 + exp(-({score[0]:.4f} * logit + {score[1]:.4f})))" in card


def test_the_ready_bundle_was_exported_from_the_weights_and_table_that_ship() -> None:
    with bundle.read(builtin_path()) as opened:
        manifest = opened.manifest
    weights, table = embedded(manifest.variant), shipped_table(manifest.variant, "common")
    assert weights is not None and manifest.weights_sha256 == sha256_of(weights)
    assert table is not None and manifest.table_sha256 == sha256_of(table)
