"""Composes training images of 96 x 96 from the drawings: one thing, or a scene of several."""

import cv2
import numpy as np

from network import IMAGE
from render import COLOURS


def background(rng, plain=False):
    """A background [IMAGE, IMAGE, 3] of bytes: white, plain, a gradient or soft noise."""
    draw = rng.random()
    if draw < 0.3:
        return np.full((IMAGE, IMAGE, 3), 255, np.uint8)
    base = rng.uniform(0, 255, 3)
    if draw < 0.45:
        base = 255 - rng.uniform(0, 60, 3)
    elif draw < 0.55:
        base = rng.uniform(0, 60, 3)
    if draw < 0.75 or plain:
        return np.broadcast_to(base.astype(np.uint8), (IMAGE, IMAGE, 3)).copy()
    cells = (2, 2) if draw < 0.88 else (int(rng.integers(3, 9)),) * 2
    spread = rng.uniform(10, 90)
    noise = np.clip(base + rng.normal(0, spread, (*cells, 3)), 0, 255).astype(np.float32)
    return np.clip(cv2.resize(noise, (IMAGE, IMAGE), interpolation=cv2.INTER_LINEAR), 0, 255).astype(np.uint8)


def named_background(rng):
    """A plain background and its colour word ("" half of the time, if it has none)."""
    if rng.random() < 0.5:
        return background(rng), ""
    word = list(COLOURS)[rng.integers(len(COLOURS))]
    shade = np.clip(np.array(COLOURS[word]) + rng.normal(0, 8, 3), 0, 255).astype(np.uint8)
    return np.broadcast_to(shade, (IMAGE, IMAGE, 3)).copy(), word


def colour_matrix(rng, strength):
    """A 4 x 4 colour matrix for premultiplied RGBA: hue, saturation, brightness and contrast, alpha kept."""
    mix = np.eye(3) + rng.normal(0, 0.08 * strength, (3, 3))
    grey = np.full((3, 3), 1 / 3)
    saturation = 0 if rng.random() < 0.05 * strength else rng.uniform(1 - 0.4 * strength, 1 + 0.2 * strength)
    mix = saturation * mix + (1 - saturation) * grey
    contrast = rng.uniform(1 - 0.3 * strength, 1 + 0.2 * strength)
    shift = rng.uniform(-0.15, 0.15) * strength + 0.5 * (1 - contrast)
    whole = np.eye(4, dtype=np.float32)
    whole[:3, :3] = contrast * mix
    whole[:3, 3] = shift
    return whole


def placed(drawings, index, size, box, centre, rng, strength, mirror):
    """A drawing of `size` pixels around `centre`, as premultiplied RGBA of `box` (width, height)."""
    levels = sorted(drawings)
    level = next((s for s in levels if s >= size * 0.95), levels[-1])
    texture = drawings[level][index]
    angle = rng.normal(0, 0.18 * strength)
    aspect, shear = np.exp(rng.normal(0, 0.1 * strength)), rng.normal(0, 0.08 * strength)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = turn @ np.array([[aspect, shear], [0, 1 / aspect]]) * (size / level)
    if mirror:
        linear = linear @ np.diag([-1.0, 1.0])
    shift = np.array(centre) - 0.5 - linear @ np.full(2, (level - 1) / 2)
    affine = np.concatenate([linear, shift[:, None]], 1)
    tile = cv2.warpAffine(texture, affine, box, flags=cv2.INTER_LINEAR)
    if strength:
        alpha = tile[..., 3:]
        tile = cv2.transform(tile, colour_matrix(rng, strength))
        tile[..., :3] = np.minimum(tile[..., :3], alpha)
    return tile


def blend(ground, tile):
    """Draws a premultiplied tile over a background, in place."""
    keep = 255 - tile[..., 3:].astype(np.uint16)
    ground[:] = tile[..., :3] + ((ground * keep + 127) // 255).astype(np.uint8)


def spoil(picture, rng):
    """Random degradation of images: blur, low resolution, sharpening, JPEG, noise."""
    draw = rng.random()
    if draw < 0.1:
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.3, 1.2))
    elif draw < 0.2:
        small = int(rng.integers(40, 90))
        picture = cv2.resize(picture, (small, small), interpolation=cv2.INTER_AREA)
        picture = cv2.resize(picture, (IMAGE, IMAGE), interpolation=cv2.INTER_CUBIC)
    elif draw < 0.5:
        # The cubic reduction of a large image is sharper than the bilinear warp here.
        soft = cv2.GaussianBlur(picture, (0, 0), 0.8)
        amount = rng.uniform(0.2, 0.9)
        picture = cv2.addWeighted(picture, 1 + amount, soft, -amount, 0)
    if rng.random() < 0.06:
        _, coded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(30, 90))])
        picture = cv2.imdecode(coded, cv2.IMREAD_COLOR)
    if rng.random() < 0.15:
        noise = rng.normal(0, rng.uniform(2, 12), picture.shape)
        picture = np.clip(picture + noise, 0, 255).astype(np.uint8)
    return picture


def single(drawings, index, rng, directed):
    """An image of one thing, at any position and any size from a third to the full image."""
    ground = background(rng)
    size = IMAGE * rng.uniform(0.42, 1.08)
    room = max(IMAGE - size, 0) / 2 + 3
    centre = IMAGE / 2 + rng.uniform(-room, room, 2)
    mirror = not directed and rng.random() < 0.4
    blend(ground, placed(drawings, index, size, (IMAGE, IMAGE), centre, rng, 1.0, mirror))
    if rng.random() < 0.12:
        width, height = (rng.uniform(0.08, 0.32, 2) * size).astype(int)
        left, top = (centre + rng.uniform(-0.5, 0.3, 2) * size).clip(0).astype(int)
        ground[top : top + height, left : left + width] = rng.integers(0, 256, 3)
    return spoil(ground, rng)


def scene(drawings, indices, rows, columns, ground, rng, directed, strength=0.4):
    """An image of rows x columns things, each somewhere in its cell; strength 0 draws them unchanged."""
    picture = ground.copy()
    side = len(ground)
    width, height = side / columns, side / rows
    cell = min(width, height)
    # Scenes of one row or column leave space next to the things, where they may shift together.
    drift = [rng.uniform(-0.3, 0.3) * (height - cell), rng.uniform(-0.3, 0.3) * (width - cell)]
    for at, index in enumerate(indices):
        size = cell * rng.uniform(0.72, 0.98)
        slack = (cell - size) / 2 + 1
        x = (at % columns + 0.5) * width + drift[1] + rng.uniform(-slack, slack)
        y = (at // columns + 0.5) * height + drift[0] + rng.uniform(-slack, slack)
        half = int(size * 0.65) + 2
        left, top = max(int(x) - half, 0), max(int(y) - half, 0)
        right, bottom = min(int(x) + half, side), min(int(y) + half, side)
        mirror = strength and not directed[at] and rng.random() < 0.3
        box, centre = (right - left, bottom - top), (x - left, y - top)
        tile = placed(drawings, index, size, box, centre, rng, strength, mirror)
        blend(picture[top:bottom, left:right], tile)
    return spoil(picture, rng) if strength else picture
