"""Opens HEIC, which iPhones write; the library is loaded with the first such file."""

from collections.abc import Callable
from functools import cache
from typing import Any

from PIL import Image

# The names that a file of one image or of a sequence may begin with. AVIF, which uses the same container, has others.
BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


def _accept(start: bytes) -> bool:
    return start[4:8] == b"ftyp" and start[8:12] in BRANDS


@cache
def _plugin() -> Callable[[Any, str], Image.Image]:
    import pi_heif

    pi_heif.options.THUMBNAILS = pi_heif.options.DEPTH_IMAGES = pi_heif.options.AUX_IMAGES = False
    pi_heif.options.DECODE_THREADS = 1  # the pool has one process per core

    class Heif(pi_heif.HeifImageFile):
        """Without EXIF: the decoder has turned the image already."""

        def _init_from_heif_file(self, img_index: int) -> None:
            found = self._heif_file[img_index]
            self._size, self._mode = found.size, found.mode
            self.info = {"icc_profile": found.info.get("icc_profile")}

    return Heif


def _open(file: Any, name: str) -> Image.Image:
    return _plugin()(file, name)


def register() -> None:
    """Make Pillow open such files as the format MANASIGHT-HEIF."""
    Image.register_open("MANASIGHT-HEIF", _open, _accept)


register()
