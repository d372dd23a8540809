"""Pictures of MuJoCo models without OpenGL, by MuJoCo's ray casting.

Rays are cast only where the robot and its shadow can be; floor and sky are computed directly. A
pixel at the edge of a geom is the mean of four rays.
"""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gallop.report.films.captions import text_size, write
from gallop.report.films.frames import Frame

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Colours = NDArray[np.float32]

WITHOUT_OPENGL = "drawn without OpenGL"  # in every picture
SKY_TOP, SKY_HORIZON = (0.56, 0.68, 0.82), (0.92, 0.94, 0.96)
SUN = (-0.35, -0.55, 1.0)  # direction from the robot to the light
SUN_METRES = 30.0
SHADOW = 0.62  # brightness of the floor in the shadow
HAZE_METRES = 30.0  # beyond which the floor fades into the horizon
N_VISIBLE_GROUPS = 3  # MuJoCo's viewers show the first three groups of geoms
DEFAULT_RGBA = (0.5, 0.5, 0.5, 1.0)  # of geoms whose material decides
NEAR_HORIZON = 1e-3  # rays less steep than this see no floor
MARGIN = 4  # pixels around a geom's bounding box
CORNERS = tuple(itertools.product((-1, 1), repeat=3))
FACES = ((0, 1, 3, 2), (4, 5, 7, 6), (0, 1, 5, 4), (2, 3, 7, 6), (0, 2, 6, 4), (1, 3, 7, 5))
SUBPIXELS = ((-0.25, -0.25), (-0.25, 0.25), (0.25, -0.25), (0.25, 0.25))


class Eye(NamedTuple):
    """A camera: the point where rays begin, and the axes of its picture."""

    position: Floats
    right: Floats
    down: Floats
    forward: Floats
    half: float
    """Half the picture's side, at a distance of 1."""


class Hits(NamedTuple):
    """What rays hit, in the order of the rays."""

    geom: NDArray[np.int32]
    """-1: nothing."""
    distance: Floats
    """-1: nothing."""
    normal: Floats
    """Shape [n, 3]."""


class PlainDrawer:
    """Draws a model without OpenGL."""

    def __init__(self, model: Any, view: Any, size: int) -> None:
        """
        Args:
            model: the `mujoco.MjModel`.
            view: number of a camera of the model, or a `mujoco.MjvCamera`.
            size: height and width of the pictures in pixels.
        """
        import mujoco

        self._model, self._size = model, size
        self._scene = mujoco.MjvScene(model, maxgeom=10)  # for its camera; needs no OpenGL
        self._camera = _as_camera(view)
        colours = [_colour(model, geom) for geom in range(model.ngeom)]
        self._colours = 255 * np.array(colours, np.float32)
        self._floor = _floor(model)
        self._drawn = _drawn(model)
        self._groups = (np.arange(6) < N_VISIBLE_GROUPS).astype(np.uint8)
        self._background = Background(size, _tiles(model, self._floor))

    def frame(self, data: Any) -> Frame:
        """Draw a state; returns uint8 [size, size, 3]."""
        eye = self._eye(data)
        height = None if self._floor is None else float(data.geom_xpos[self._floor, 2])
        pixels = self._background.draw(eye, height)
        corners = _corners(self._model, data, self._drawn)
        if height is not None and len(corners):
            self._draw_shadow(pixels, data, eye, corners, height)
        self._draw_geoms(pixels, data, eye, _covered(eye, corners, self._size))
        frame: Frame = pixels.astype(np.uint8).reshape(self._size, self._size, 3)
        write(frame, WITHOUT_OPENGL, text_size(frame), bottom=True)
        return frame

    def close(self) -> None:
        """Do nothing: there is no context to free."""

    def _eye(self, data: Any) -> Eye:
        """Return where MuJoCo's camera is, between its two eyes."""
        import mujoco

        mujoco.mjv_updateCamera(self._model, data, self._camera, self._scene)
        left, right = self._scene.camera[0], self._scene.camera[1]
        position = (np.array(left.pos, float) + right.pos) / 2
        forward, up = np.array(left.forward, float), np.array(left.up, float)
        half = float((left.frustum_top - left.frustum_bottom) / 2 / left.frustum_near)
        return Eye(position, np.cross(forward, up), -up, forward, half)

    def _cast(self, data: Any, start: Floats, rays: Floats) -> Hits:
        """Cast rays of length 1, shape [n, 3], from a point."""
        import mujoco

        n = len(rays)
        geom, distance, normal = np.empty(n, np.int32), np.empty(n), np.empty((n, 3))
        flat = np.ascontiguousarray(rays).reshape(-1)
        before = (self._model, data, start, flat, self._groups, True, -1, geom, distance)
        after = (n, mujoco.mjMAXVAL)
        try:
            mujoco.mj_multiRay(*before, normal.reshape(-1), *after)
        except TypeError:  # an older MuJoCo gives no normals
            mujoco.mj_multiRay(*before, *after)
            normal[:] = -rays
        return Hits(geom, distance, normal)

    def _draw_geoms(self, pixels: Colours, data: Any, eye: Eye, covered: Integers) -> None:
        """Draw what rays through these pixels hit."""
        if not len(covered):
            return
        hits = self._cast(data, eye.position, self._background.rays[covered])
        shown = self._shown(hits)
        geoms = np.full(self._size * self._size, -1, np.int32)
        geoms[covered[shown]] = hits.geom[shown]
        edges = np.flatnonzero(_edges(geoms.reshape(self._size, self._size)))
        behind = pixels[edges]
        pixels[covered[shown]] = self._shade(hits, shown)
        if not len(edges):
            return
        total = np.zeros_like(behind)
        for down, right in SUBPIXELS:
            places = np.stack(np.divmod(edges, self._size), axis=1) + np.array([down, right])
            hits = self._cast(data, eye.position, _rays(eye, self._size, places))
            shown, colours = self._shown(hits), behind.copy()
            colours[shown] = self._shade(hits, shown)
            total += colours
        pixels[edges] = total / len(SUBPIXELS)

    def _shown(self, hits: Hits) -> NDArray[np.bool_]:
        """Whether each ray hits a geom other than the floor."""
        hit: NDArray[np.bool_] = hits.geom >= 0
        return hit if self._floor is None else hit & (hits.geom != self._floor)

    def _shade(self, hits: Hits, shown: NDArray[np.bool_]) -> Colours:
        """Return the colours of these hits: light from the sky and from the sun."""
        normal = hits.normal[shown].astype(np.float32)
        sun = (np.array(SUN) / np.linalg.norm(SUN)).astype(np.float32)
        light = 0.62 + 0.18 * normal[:, 2] + 0.35 * np.clip(normal @ sun, 0, None)
        colours: Colours = np.minimum(self._colours[hits.geom[shown]] * light[:, None], 255)
        return colours

    def _draw_shadow(
        self, pixels: Colours, data: Any, eye: Eye, corners: Floats, height: float
    ) -> None:
        """Darken the floor where a geom is between it and the sun."""
        sun = corners.mean(axis=(0, 1)) + SUN_METRES * np.array(SUN)
        reach = (sun[2] - height) / np.maximum(sun[2] - corners[..., 2:], 1e-3)
        covered = _covered(eye, sun + reach * (corners - sun), self._size)
        covered = covered[self._background.rays[covered, 2] < -NEAR_HORIZON]
        if not len(covered):
            return
        rays = self._background.rays[covered]
        points = eye.position + rays * ((height - eye.position[2]) / rays[:, 2:])
        away = points - sun
        length = np.linalg.norm(away, axis=1)
        hits = self._cast(data, sun, away / length[:, None])
        dark = np.zeros((self._size, self._size), np.float32)
        dark.flat[covered] = self._shown(hits) & (hits.distance < length - 1e-3)
        pixels[covered] *= 1 - (1 - SHADOW) * _blurred(dark).reshape(-1, 1)[covered]


class Tiles(NamedTuple):
    """How the floor is tiled."""

    metres: float
    colours: tuple[tuple[float, ...], tuple[float, ...]]
    """Dark and bright, from 0 to 1."""


class Background:
    """Floor and sky. What depends on the camera's direction alone is computed once."""

    def __init__(self, size: int, tiles: Tiles) -> None:
        """
        Args:
            size: height and width of the pictures in pixels.
            tiles: of the floor.
        """
        self._size, self._tiles = size, tiles
        self._direction: tuple[Any, ...] = ()
        self.rays: Floats = np.zeros((size * size, 3))
        """Directions of length 1 through the pixels, row by row."""

    def draw(self, eye: Eye, floor: float | None) -> Colours:
        """Return a new picture.

        Args:
            eye: the camera.
            floor: its height; None without a floor.

        Returns:
            Colours from 0 to 255, row by row, shape [size * size, 3].
        """
        direction = (*eye.right, *eye.down, *eye.forward, eye.half)
        above = 0.0 if floor is None else float(eye.position[2]) - floor
        if direction != self._direction:
            self._prepare(eye, above)
            self._direction = direction
        pixels = self._sky.copy()
        if above > 0:
            pixels[self._down] = self._draw_floor(eye, above)
        return pixels

    def _prepare(self, eye: Eye, above: float) -> None:
        places = np.stack(np.divmod(np.arange(self._size**2), self._size), axis=1)
        self.rays = _rays(eye, self._size, places)
        rays = self.rays.astype(np.float32)
        share = np.clip(rays[:, 2:] * np.float32(1.4), 0, 1)
        top, horizon = (np.array(colour, np.float32) for colour in (SKY_TOP, SKY_HORIZON))
        self._sky: Colours = 255 * (horizon + share * (top - horizon))
        down = rays[:, 2] < -NEAR_HORIZON
        first = int(down.argmax())
        # Below a level horizon lies a block, which NumPy writes faster than single pixels.
        self._down: Any = slice(first, None) if down[first:].all() else down
        rays = rays[self._down] if down.any() else rays[:0]
        self._down = self._down if down.any() else slice(0, 0)
        # From a height of 1: where on the floor, and how long a pixel is there. Shape [2, n].
        self._reach: Colours = np.ascontiguousarray((rays[:, :2] / -rays[:, 2:]).T)
        far = np.linalg.norm(self._reach, axis=0)
        pixel = 2 * eye.half / self._size
        self._width: Colours = pixel * np.maximum(1, far * np.abs(self._reach))
        self._clear: Colours = np.exp(-far * np.float32(max(above, 0.0) / HAZE_METRES))
        dark, bright = (255 * np.array(colour, np.float32) for colour in self._tiles.colours)
        self._hazy: Colours = 255 * horizon + self._clear[:, None] * (dark - 255 * horizon)
        self._contrast: Colours = bright - dark

    def _draw_floor(self, eye: Eye, above: float) -> Colours:
        metres = self._tiles.metres
        # The camera's place within a pair of tiles: float32 then suffices far from the start.
        start = (eye.position[:2] % (2 * metres) / metres).astype(np.float32)
        factor = np.float32(above / metres)
        width = np.maximum(self._width * factor, np.float32(1e-3))
        place = self._reach * factor
        place += start[:, None] - width / 2
        wave = -_triangle(place)
        place += width
        wave += _triangle(place)
        wave /= width
        share = (np.float32(0.5) + np.float32(0.5) * wave[0] * wave[1]) * self._clear
        colours: Colours = share[:, None] * self._contrast
        colours += self._hazy
        return colours


def _triangle(x: Colours) -> Colours:
    """Return the integral of a square wave of period 2 that is +1 and -1 in turn.

    The mean of the wave over an interval is the difference at its ends, divided by its length: an
    antialiased pattern, after Inigo Quilez, "Filtering the checkerboard pattern".
    """
    wave = x * np.float32(0.5)
    wave -= np.floor(wave)
    wave -= np.float32(0.5)
    np.abs(wave, out=wave)
    wave *= 2
    return wave


def _rays(eye: Eye, size: int, places: NDArray[Any]) -> Floats:
    """Return directions of length 1 through places of the picture.

    Args:
        eye: the camera.
        size: height and width of the picture in pixels.
        places: row and column, shape [n, 2]; whole numbers are the middle of a pixel.
    """
    down, across = (((places + 0.5) / size * 2 - 1) * eye.half).T
    rays = eye.forward + across[:, None] * eye.right + down[:, None] * eye.down
    normed: Floats = rays / np.linalg.norm(rays, axis=1, keepdims=True)
    return normed


def _covered(eye: Eye, corners: Floats, size: int) -> Integers:
    """Return the pixels that boxes cover, with a margin; all pixels if a corner is behind the eye.

    Args:
        eye: the camera.
        corners: of boxes, shape [n, 8, 3], in the order of `CORNERS`.
        size: height and width of the picture in pixels.
    """
    from PIL import Image, ImageDraw

    if not len(corners):
        return np.zeros(0, np.int64)
    away = corners - eye.position
    depth = away @ eye.forward
    if depth.min() < 0.01:
        return np.arange(size * size)
    places = [((away @ axis) / depth / eye.half + 1) / 2 * size for axis in (eye.right, eye.down)]
    # Pillow draws what is inside alone; places far outside would overflow.
    points = np.clip(np.stack(places, axis=-1), -10 * size, 10 * size)
    mask = Image.new("L", (size, size))
    draw = ImageDraw.Draw(mask)
    for box in points:
        for face in FACES:  # together they are the box's outline
            corner = [tuple(box[index]) for index in face]
            draw.polygon(corner, fill=1)
            draw.line([*corner, corner[0]], fill=1, width=MARGIN)
    covered: Integers = np.flatnonzero(np.asarray(mask))
    return covered


def _corners(model: Any, data: Any, geoms: Integers) -> Floats:
    """Return the corners of the geoms' bounding boxes in world axes, shape [n, 8, 3]."""
    centre, half = model.geom_aabb[geoms, None, :3], model.geom_aabb[geoms, None, 3:]
    local = centre + np.array(CORNERS) * half
    rotation = data.geom_xmat[geoms].reshape(-1, 3, 3)
    corners: Floats = np.einsum("gij,gcj->gci", rotation, local) + data.geom_xpos[geoms, None]
    return corners


def _edges(geoms: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Whether a neighbour of each pixel shows another geom."""
    edges = np.zeros(geoms.shape, bool)
    across, down = geoms[:, 1:] != geoms[:, :-1], geoms[1:] != geoms[:-1]
    edges[:, 1:] |= across
    edges[:, :-1] |= across
    edges[1:] |= down
    edges[:-1] |= down
    return edges


def _blurred(mask: Colours) -> Colours:
    """Return the mean over a square of three by three pixels."""
    padded = np.pad(mask, 1, mode="edge")
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    mean: Colours = (rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]) / 9
    return mean


# --- the model -----------------------------------------------------------------------------------


def _as_camera(view: Any) -> Any:
    import mujoco

    if not isinstance(view, int):
        return view
    camera = mujoco.MjvCamera()
    camera.type, camera.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, view
    return camera


def _drawn(model: Any) -> Integers:
    """Return the geoms that rays can hit, without planes."""
    import mujoco

    visible = (model.geom_group < N_VISIBLE_GROUPS) & (model.geom_rgba[:, 3] > 0)
    return np.flatnonzero(visible & (model.geom_type != mujoco.mjtGeom.mjGEOM_PLANE))


def _floor(model: Any) -> int | None:
    """Return the horizontal plane of the world; None without one."""
    import mujoco

    for geom in np.flatnonzero(model.geom_type == mujoco.mjtGeom.mjGEOM_PLANE):
        upright = np.abs(model.geom_quat[geom, 1:3]).max() < 1e-6
        if upright and model.body_weldid[model.geom_bodyid[geom]] == 0:
            return int(geom)
    return None


def _tiles(model: Any, floor: int | None) -> Tiles:
    """Return tiles of the size and, softened, of the colours of the floor's texture."""
    plain = Tiles(1.0, ((0.55, 0.6, 0.66), (0.75, 0.79, 0.83)))
    material = -1 if floor is None else int(model.geom_matid[floor])
    texture = _texture(model, material)
    if floor is None or texture is None:
        return plain
    repeat, size = float(model.mat_texrepeat[material, 0]), float(model.geom_size[floor, 0])
    if model.mat_texuniform[material] or size <= 0:
        period = 1 / repeat if repeat > 0 else 2.0
    else:
        period = 2 * size / repeat if repeat > 0 else 2.0
    bright = texture.mean(axis=1) >= texture.mean()
    colour = _colour(model, floor, textured=False)
    tones = [texture[bright == which].mean(axis=0) if (bright == which).any() else np.ones(3)
             for which in (False, True)]  # fmt: skip
    dark, light = (tuple(float(c) for c in 0.38 + 0.45 * colour * tone) for tone in tones)
    return Tiles(min(max(period / 2, 0.1), 10.0), (dark, light))


def _texture(model: Any, material: int) -> Floats | None:
    """Return the colours of a material's texture, shape [pixels, 3]; None without one."""
    import mujoco

    if material < 0:
        return None
    ids = np.atleast_1d(model.mat_texid[material])
    role = int(mujoco.mjtTextureRole.mjTEXROLE_RGB)
    texture = int(ids[role] if len(ids) > role else ids[0])
    if texture < 0 or model.tex_nchannel[texture] < 3:
        return None
    n = int(model.tex_height[texture]) * int(model.tex_width[texture])
    start, channels = int(model.tex_adr[texture]), int(model.tex_nchannel[texture])
    data = model.tex_data[start : start + n * channels].reshape(n, channels)
    colours: Floats = data[:, :3] / 255.0
    return colours


def _colour(model: Any, geom: int, textured: bool = True) -> Floats:
    """Return a geom's colour: its own, or its material's, times the mean of its texture."""
    material = int(model.geom_matid[geom])
    rgba = model.geom_rgba[geom]
    if material >= 0 and np.allclose(rgba, DEFAULT_RGBA):
        rgba = model.mat_rgba[material]
    colour: Floats = np.array(rgba[:3], float)
    texture = _texture(model, material) if textured else None
    return colour if texture is None else colour * texture.mean(axis=0)
