"""One person: identity, expression, pose, clothes and hair put together into a surface and its keypoints."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .accessories import draw_accessories
from .clothing import Outfit, draw_outfit
from .colour import draw_iris, draw_skin
from .complexion import Complexion, draw_complexion, lay_on
from .expression import draw_expression
from .headwear import Headwear, draw_headwear
from .identity import BLOCK, Identity, draw_identities
from .layout import Figure
from .limbs import Skeleton
from .mesh import FloatArray, add_at, moved, push_out, shown_triangles, vertex_normals
from .pose import draw_pose
from .rotations import Matrix, Vector
from .surface import Surface


@dataclass(frozen=True)
class Actor:
    """A person in world axes (z up, metres), standing at the origin and facing -y before being turned and moved."""

    surface: Surface
    keypoints: FloatArray
    """(133,3)"""
    outline: FloatArray
    """(P,3) every few vertices of the shown surface: enough for boxes and shadows."""
    scale: float
    """Size relative to the average adult."""
    pose: str

    def moved(self, rotation: Matrix, offset: Vector | FloatArray) -> Actor:
        """The same person turned by `rotation` (3,3), then shifted by `offset` (3,)."""
        turn, shift = rotation.astype(np.float32), offset.astype(np.float32)
        return replace(
            self,
            surface=self.surface.moved(turn, shift),
            keypoints=moved(self.keypoints, turn, shift),
            outline=moved(self.outline, turn, shift),
        )


@dataclass(frozen=True)
class Character:
    """What stays with a person whatever they wear and do: body, skin, hair."""

    identity: Identity
    skin: FloatArray
    """(3,) BGR"""
    look: Complexion


def draw_characters(figure: Figure, rng: np.random.Generator, count: int = BLOCK) -> list[Character]:
    """`count` new people."""
    characters = []
    for identity in draw_identities(figure.body, rng, count):
        skin = draw_skin(rng, identity.darkness)
        characters.append(Character(identity, skin, draw_complexion(figure.body, figure.layout, identity, skin, rng)))
    return characters


def draw_actor(figure: Figure, character: Character, rng: np.random.Generator) -> Actor:
    """One dressed person in a drawn pose, the feet (or whatever is lowest) on the ground z = 0."""
    body, layout, identity, look = figure.body, figure.layout, character.identity, character.look
    skeleton = Skeleton(body, identity.heads.astype(np.float64), identity.tips.astype(np.float64))
    pose = draw_pose(skeleton, rng)
    outfit = draw_outfit(layout, identity, pose, character.skin, rng)
    hat = draw_headwear(layout, rng)

    rest = body.with_expression(identity.vertices, draw_expression(body.facial, rng))
    if outfit.shoes is not None:
        add_at(rest, layout.feet, outfit.shoes)
    root = np.zeros((3, 4))
    root[:, :3] = pose.root
    hips = identity.heads[body.bone["root"]]
    root[:, 3] = -pose.root @ np.array([hips[0], hips[1], 0.0])
    transforms = body.transforms(skeleton.heads, pose.rotations, root)
    vertices = body.skinned(rest, transforms)
    heads = (np.einsum("bij,bj->bi", transforms[:, :, :3], identity.heads) + transforms[:, :, 3]).astype(np.float32)

    keep = outfit.keep
    keep[layout.hair] = -1 if look.long_hair is None else look.long_hair
    triangles, kinds = shown_triangles(figure.triangles, figure.kinds, keep)
    normals = vertex_normals(vertices, triangles)
    raised = look.offset
    if hat is not None:
        raised = raised.copy()
        raised[layout.head] = np.where(hat.covers > 0, hat.offset, raised[layout.head])
    push_out(vertices, normals, outfit.offset + raised)
    normals = vertex_normals(vertices, triangles)

    worn = np.concatenate([layout.garment, *([layout.hair] if look.long_hair is not None else [])])
    shown = np.concatenate([layout.skin[::11], worn[keep[worn] > 0][::5]])
    ground = vertices[shown, 2].min()
    vertices[:, 2] -= ground
    heads[:, 2] -= ground
    keypoints = figure.keypoints(vertices, heads, outfit.shoes is not None)
    height = np.linalg.norm(identity.heads[body.bone["head"]] - identity.heads[body.bone["foot.L"]])
    scale = float(height / figure.height)
    upper_spine = body.bone["spine01"]
    spine = np.concatenate([transforms[upper_spine, :, :3], heads[upper_spine][:, None]], 1)
    solids = draw_accessories(pose, keypoints, spine, scale, rng)
    if hat is not None:
        solids += hat.brim(keypoints, scale, rng)
    surface = Surface(
        vertices=vertices,
        normals=normals,
        triangles=triangles,
        kinds=kinds,
        keep=keep,
        canonical=layout.canonical,
        colours=_dress_skin(figure, look, outfit, hat),
        upper=outfit.upper,
        materials=outfit.materials,
        patterns=outfit.patterns,
        wrinkles=layout.wrinkles,
        brow=layout.brow,
        eyes=layout.eyes,
        brow_colour=look.brow.astype(np.float32),
        iris=draw_iris(rng),
        brow_width=np.float32(rng.uniform(0.0022, 0.0045)),
        gloss=np.float32(rng.uniform(0.02, 0.22)),
        fold=np.float32(rng.uniform(0.1, 0.45)),
        cloth_lead=np.float32(0.012 * scale),
    )
    return Actor(surface.with_solids(solids), keypoints, vertices[shown], scale, pose.kind)


def _dress_skin(figure: Figure, look: Complexion, outfit: Outfit, hat: Headwear | None) -> FloatArray:
    """Gloves, socks and the dome of a hat: painted on the skin, which they follow closely enough."""
    layout, colours = figure.layout, look.colours.copy()
    if outfit.gloves is not None:
        hand = (layout.arm > 0.5) & (layout.along_arm > 0.985)
        colours[hand] = outfit.gloves
    if outfit.socks is not None:
        colour, top = outfit.socks
        colours[(layout.along_leg > top) & (layout.arm < 0.5)] = colour
    if hat is not None:
        lay_on(colours, layout.head, hat.covers, hat.colour)
    return colours
