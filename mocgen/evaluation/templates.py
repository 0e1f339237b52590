"""Every look of the world as small pictures that are linear in its two colours."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations_with_replacement, product

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mocgen.training.world import (
    COLORS,
    PATTERNS,
    SHAPES,
    Look,
    Pose,
    ShotSpec,
    object_mask,
    places,
    render_shot,
    tracks,
)
from mocgen.training.world.render import PALETTE

SIDE = 32  # pixels of a template
REACH = 1.25  # half its side, in radii of the object
SPIN_PHASES = (0.25, 0.75)
COLOR_SETS = tuple(combinations_with_replacement(COLORS, 2))  # of one colour or two
UNTURNABLE = (("ball", "plain"), ("ring", "plain"))  # shapes and patterns on which turning cannot be seen
PLACE, BACKDROP, SIZE, DIAMETER = "outer space", 0, 64, 0.42  # what templates are cut out of: no shadow there


@dataclass(frozen=True, kw_only=True)
class Templates:
    """Pictures of all looks. P = SIDE² pixels; G groups: shape, pattern, black among the colours or not.

    In a pixel that the object covers to the share `cover` it shows
    cover · colour = base + first · color + second · color2, with fields base, first, second of the group.
    So how well a look fits a window is linear in what its group has to say: seven sums over pixels.
    V views: upright, then as in spinning shots, by phase and frame. Looks of a group are padded to M.
    """

    looks: tuple[tuple[Look, ...], ...]  # of each group
    outlines: Tensor  # (shapes, SIDE, SIDE) upright cover
    fields: Tensor  # (V, 4P, G): 2 · base of red, green, blue, then cover
    shares: Tensor  # (V, P, 2G): 2 · first, then 2 · second
    mixing: Tensor  # (G, 7, M): 1, then the red, green, blue of color and of color2
    own: Tensor  # (V, shapes, P): how much of the object's own colours a pixel has: no outline, no glint
    color_sets: Tensor  # (G · M / shapes,): which of COLOR_SETS the looks of each shape have
    energy: Tensor  # (V, G, M): sum over pixels of cover · |colour|²; infinite for padding

    def look_at(self, number: int) -> Look:
        """The look at a place of (G, M), flattened."""
        group, member = divmod(number, self.mixing.shape[2])
        return self.looks[group][member]


def all_looks() -> tuple[Look, ...]:
    """Every look of the world."""
    looks = []
    for shape, pattern, color in product(SHAPES, PATTERNS, COLORS):
        seconds = [None] if pattern == "plain" else [other for other in COLORS if other != color]
        looks += [Look(shape=shape, pattern=pattern, color=color, color2=second) for second in seconds]
    return tuple(looks)


def palette(color: str | None) -> Tensor:
    """RGB of a colour, 0..1; zeros for none."""
    return torch.zeros(3) if color is None else torch.tensor(PALETTE[color])


@lru_cache(maxsize=2)
def templates(frames: int) -> Templates:
    """All looks, upright and as they turn in a spinning shot of this many frames."""
    groups = list(product(SHAPES, PATTERNS, (False, True)))
    looks = [tuple(look for look in all_looks() if _group_of(look) == group) for group in groups]
    most = max(map(len, looks))
    parts = [_group(*group, frames) for group in groups]
    cover, base, shares = (torch.stack([part[i] for part in parts]) for i in range(3))  # (G, V, …, P)
    mixing = torch.zeros(len(groups), 7, most)
    mixing[:, 0] = 1
    energy = torch.full((cover.shape[1], len(groups), most), torch.inf)
    for group, members in enumerate(looks):
        colors = torch.stack([torch.cat((palette(look.color), palette(look.color2))) for look in members])
        mixing[group, 1:, : len(members)] = colors.T
        mixed = torch.einsum("nkc,vkp->vncp", colors.unflatten(1, (2, 3)), shares[group])
        shown = (base[group][:, None] + mixed).square().sum(2)  # (V, n, P)
        energy[:, group, : len(members)] = (shown / cover[group].clamp(min=1e-3)[:, None]).sum(-1)
        if groups[group][:2] in UNTURNABLE:
            energy[1:, group] = torch.inf
    fields = torch.cat((2 * base, cover[:, :, None]), dim=2)  # (G, V, 4, P)
    return Templates(
        looks=tuple(looks),
        outlines=cover[:: len(groups) // len(SHAPES), 0].unflatten(-1, (SIDE, SIDE)),
        fields=fields.permute(1, 2, 3, 0).flatten(1, 2).contiguous(),
        shares=(2 * shares).permute(1, 3, 2, 0).flatten(2).contiguous(),
        mixing=mixing,
        own=shares.sum(2)[:: len(groups) // len(SHAPES)].movedim(0, 1).clamp(0, 1).contiguous(),
        color_sets=_color_sets(looks[: len(groups) // len(SHAPES)], most),
        energy=energy,
    )


def _color_sets(looks: list[tuple[Look, ...]], most: int) -> Tensor:
    """Which of COLOR_SETS each look has, padded to `most` looks in a group and flattened."""
    sets = torch.zeros(len(looks), most, dtype=torch.long)
    for group, members in enumerate(looks):
        for place, look in enumerate(members):
            sets[group, place] = COLOR_SETS.index(_set_of(look))
    return sets.flatten()


def _set_of(look: Look) -> tuple[str, str]:
    pair = sorted((look.color, look.color2 or look.color), key=COLORS.index)
    return pair[0], pair[1]


def _group_of(look: Look) -> tuple[str, str, bool]:
    return look.shape, look.pattern, "black" in (look.color, look.color2)


def _group(shape: str, pattern: str, black: bool, frames: int) -> tuple[Tensor, Tensor, Tensor]:
    """cover (V, P), base (V, 3, P), shares (V, 2, P), solved from a few renderings."""
    firsts = ("black",) if black else ("red", "white")
    pairs: list[tuple[str, str | None]] = [(color, None) for color in firsts]
    if pattern != "plain":
        pairs = [("black", "yellow"), ("blue", "black")] if black else [("red", "green"), ("white", "blue")]
    looks = [Look(shape=shape, pattern=pattern, color=a, color2=b) for a, b in pairs]
    views = [_views(look, frames) for look in looks]
    shown = torch.stack([view[1] for view in views]).movedim(1, 0)  # (V, n, 3, P)
    cover = views[0][0]
    shades = torch.stack([torch.stack((palette(a), palette(b))) for a, b in pairs])  # (n, 2, 3)
    design = torch.zeros(len(pairs), 3, 5)
    design[:, :, :3] = torch.eye(3)
    design[:, :, 3:] = shades.transpose(1, 2)
    solver = torch.linalg.pinv(design.flatten(0, 1))  # (5, 3n)
    solved = torch.einsum("uk,vkp->vup", solver, shown.flatten(1, 2))  # (V, 5, P)
    return cover, solved[:, :3], solved[:, 3:]


def _views(look: Look, frames: int) -> tuple[Tensor, Tensor]:
    """cover (V, P) and cover · colour (V, 3, P) of a look."""
    pose = Pose(x=0.0, lift=0.0, size=DIAMETER, phase=0.0, backdrop=BACKDROP)
    still = ShotSpec(look=look, place=PLACE, motion="stands still", pose=pose, caption="", full_caption="")
    shots = [(still, 1)]
    for phase in SPIN_PHASES:
        shots.append((replace(still, motion="spins", pose=replace(pose, phase=phase)), frames))
    covers, colors = zip(*(_cut(shot, count) for shot, count in shots), strict=True)
    return torch.cat(covers), torch.cat(colors)


def _cut(shot: ShotSpec, frames: int) -> tuple[Tensor, Tensor]:
    mask = torch.from_numpy(object_mask(shot, frames=frames, size=SIZE))[:, None]  # (T, 1, H, W)
    video = torch.from_numpy(render_shot(shot, frames=frames, size=SIZE)).movedim(-1, 1).float() / 255
    behind = torch.from_numpy(places.paint(PLACE, BACKDROP, SIZE).copy()).movedim(-1, 0)
    path = tracks.track(shot, frames)
    where = torch.from_numpy(np.stack((path.x, path.y, path.radius), axis=1)).float()
    cut = cut_out(torch.cat((mask, video - (1 - mask) * behind), dim=1), where[:, None])[:, 0]
    return cut[:, 0], cut[:, 1:]


def cut_out(frames: Tensor, where: Tensor) -> Tensor:
    """Square windows around objects.

    frames: (T, C, H, W); where: (T, K, 3) centre x, y and radius in frame widths. Returns (T, K, C, SIDE²).
    """
    steps = (torch.arange(SIDE) + 0.5) / SIDE * 2 - 1
    across = where[..., 0, None] + REACH * where[..., 2, None] * steps  # (T, K, S)
    down = where[..., 1, None] + REACH * where[..., 2, None] * steps
    count, windows = where.shape[:2]
    shape = (count, windows, SIDE, SIDE)
    grid = torch.stack((across[:, :, None, :].expand(shape), down[..., None].expand(shape)), dim=-1) * 2 - 1
    cut = F.grid_sample(
        frames, grid.flatten(1, 2), mode="bilinear", padding_mode="border", align_corners=False
    )
    return cut.unflatten(2, (windows, SIDE)).movedim(2, 1).flatten(-2)
