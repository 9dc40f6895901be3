"""Keeps metadata from deciding over an image's pixels: Pillow refuses sound images because of odd tags and texts."""

import io
from collections.abc import Callable
from typing import Any

from PIL import AvifImagePlugin, ExifTags, Image, ImageFile, PngImagePlugin, TiffImagePlugin

ORIENTATION = ExifTags.Base.Orientation
_RESOLUTION = (ExifTags.Base.XResolution, ExifTags.Base.YResolution, ExifTags.Base.ResolutionUnit)
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# These exchange width and height.
LYING = {_TURNS[value] for value in (5, 6, 7, 8)}


def turn(image: Image.Image) -> Image.Transpose | None:
    """What makes an image upright by its EXIF orientation; None if nothing does, or if the metadata is unreadable."""
    try:
        return _TURNS.get(image.getexif().get(ORIENTATION, 1))
    except MemoryError:
        raise
    except Exception:  # struct.error, TypeError, OSError, SyntaxError, …: there is no common class
        return None


class Tiff(TiffImagePlugin.TiffImageFile):
    """Pillow turns a TIFF upright itself, and rewrites all the other tags for it, which fails at odd ones."""

    def _setup(self) -> None:
        for tag in _RESOLUTION:
            if tag in self.tag_v2:
                del self.tag_v2[tag]
        super()._setup()

    def load_end(self) -> None:
        """Turn the loaded pixels; the size was that of the upright image from the start."""
        if (method := _TURNS.get(self.tag_v2.get(ORIENTATION))) is not None:
            self.im = self.im.transpose(method)
            self._size = self.im.size
        # What is asked from now on must find no orientation, and no file to read one from.
        self.info["exif"] = b""


class Avif(AvifImagePlugin.AvifImageFile):
    """Pillow writes an AVIF's own rotation into its EXIF, which fails at odd tags."""

    def _open(self) -> None:
        try:
            super()._open()
        except (SyntaxError, MemoryError):
            raise
        except Exception:
            exif = Image.Exif()
            exif[ORIENTATION] = self._decoder.get_info()[5]  # raises again if this is not about the metadata
            self.info["exif"] = exif.tobytes()
            self.seek(0)


def _forgiving(handler: Callable[..., bytes]) -> Callable[..., bytes]:
    """A reader of a PNG chunk that ignores the chunk where `handler` would refuse the image."""

    def read(stream: Any, position: int, length: int) -> bytes:
        data = ImageFile._safe_read(stream.fp, length)
        whole, stream.fp = stream.fp, io.BytesIO(data)
        try:
            handler(stream, position, length)
        except MemoryError:
            raise
        except Exception:
            return data
        finally:
            stream.fp = whole
        return data

    return read


def register() -> None:
    """Make Pillow open TIFF and AVIF by the classes above, and PNG in spite of texts and profiles that are too large.

    Formats are registered beside Pillow's own, so that nothing changes for who does not ask for them by name.
    """
    for name, plugin in (("TIFF", Tiff), ("AVIF", Avif)):
        Image.register_open(f"MANASIGHT-{name}", plugin, Image.OPEN[name][1])
    for chunk in ("tEXt", "zTXt", "iTXt", "iCCP"):
        name = f"chunk_{chunk}"
        setattr(PngImagePlugin.PngStream, name, _forgiving(getattr(PngImagePlugin.PngStream, name)))


register()
