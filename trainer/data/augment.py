"""Random changes to training images that leave their labels true."""

from dataclasses import dataclass

import torch
from PIL import Image, ImageFilter
from torchvision.transforms import v2


@dataclass
class Augmentation:
    """How strongly training images are changed. Text and layout survive: nothing is flipped by default.

    Attributes:
        degrees: largest rotation, in degrees either way.
        translate: largest shift, as a share of the image's size.
        scale: largest zoom in or out, as a share.
        perspective: strength of the perspective, from 0 to 1.
        brightness, contrast, saturation: largest change, as a share.
        hue: largest shift of the hue, from 0 to 0.5 of the colour circle. Colours are labels of cards: keep it small.
        blur: chance of a slight Gaussian blur.
        flip: chance of a left-right flip; for images without text or handedness.
    """

    degrees: float = 3.0
    translate: float = 0.03
    scale: float = 0.06
    perspective: float = 0.1
    brightness: float = 0.25
    contrast: float = 0.25
    saturation: float = 0.2
    hue: float = 0.0
    blur: float = 0.15
    flip: float = 0.0

    def transform(self) -> v2.Transform:
        """A transform from PIL image to PIL image of the same size. On PIL images these run as single C loops."""
        steps: list[v2.Transform] = []
        if self.degrees or self.translate or self.scale:
            steps.append(
                v2.RandomAffine(
                    self.degrees,
                    translate=(self.translate, self.translate),
                    scale=(1 - self.scale, 1 + self.scale),
                    interpolation=v2.InterpolationMode.BILINEAR,
                    fill=127,
                )
            )
        if self.perspective:
            steps.append(v2.RandomPerspective(self.perspective, p=0.5, fill=127))
        if self.brightness or self.contrast or self.saturation or self.hue:
            steps.append(v2.ColorJitter(self.brightness, self.contrast, self.saturation, self.hue))
        if self.blur:
            steps.append(v2.RandomApply([v2.Lambda(_slight_blur)], p=self.blur))
        if self.flip:
            steps.append(v2.RandomHorizontalFlip(self.flip))
        return v2.Compose(steps) if steps else v2.Identity()


def _slight_blur(image: Image.Image) -> Image.Image:
    """Pillow's own Gaussian blur: torchvision's leaves PIL for tensors and takes ten times as long."""
    return image.filter(ImageFilter.GaussianBlur(float(torch.empty(1).uniform_(0.3, 1.2))))
