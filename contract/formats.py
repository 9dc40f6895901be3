"""Tells by a file's first bytes whether it is a supported image, and names what it is otherwise."""

import re

SUPPORTED = "JPEG, PNG, WebP, AVIF, HEIC, GIF, BMP, TIFF or PPM"

_IMAGES = {
    b"\x00\x00\x00\x0cJXL ": "JPEG XL",
    b"\xff\x0a": "JPEG XL",
    b"\x00\x00\x00\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"8BPS": "PSD",
    b"\x00\x00\x01\x00": "ICO",
    b"qoif": "QOI",
    b"DDS ": "DDS",
    b"v/1\x01": "OpenEXR",
    b"#?RADIANCE": "Radiance HDR",
    b"SIMPLE  =": "FITS",
    b"%!PS": "EPS",
    b"\xc5\xd0\xd3\xc6": "EPS",
    b"FUJIFILMCCD-RAW": "Fujifilm RAW",
    b"icns": "ICNS",
    b"gimp xcf": "XCF",
    b"\x01\xda": "SGI",
    b"FLIF": "FLIF",
    b"BPG\xfb": "BPG",
    b"AT&TFORM": "DjVu",
}
_OTHERS = {
    b"%PDF": "a PDF document",
    b"\x1aE\xdf\xa3": "a WebM or Matroska video",
    b"\x00\x00\x01\xba": "an MPEG video",
    b"OggS": "an Ogg file",
    b"FLV\x01": "a Flash video",
    b"ID3": "an MP3 file",
    b"PK\x03\x04": "a zip archive or an office document",
    b"Rar!": "a RAR archive",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"\x1f\x8b": "a gzip archive",
    b"version https://git-lfs": "a Git LFS pointer; fetch the file itself with `git lfs pull`",
}

# What the decoders of `contract/images.py` read. BMP and PPM have short signatures: more of their header is compared.
_SUPPORTED = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|GIF8[79]a|II\*\0|MM\0\*|II\+\0|MM\0\+|RIFF....WEBP|....ftyp(?:avi[fs]|he[iv][cxms]|m[is]f1)"
    rb"|BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0|P[1-6]\s+(?:#|\d+\s+\d)",
    re.DOTALL,
)


def is_image(start: bytes) -> bool:
    """Whether a file begins as a supported image does, whatever it is called; 64 bytes suffice."""
    return _SUPPORTED.match(start) is not None


def describe(start: bytes) -> str:
    """One sentence about a file that is not a supported image, by its first bytes (some hundreds suffice)."""
    if name := unsupported_image(start):
        return f"Unsupported image format {name}. Use {SUPPORTED}."
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start[4:8] == b"ftyp" and is_image(start):
        return "The image is damaged or incomplete."
    if start[4:8] == b"ftyp":
        other = "an MP4 or QuickTime video"
    elif start[:4] == b"RIFF" and start[8:12] == b"AVI ":
        other = "an AVI video"
    elif start[:4] == b"RIFF" and start[8:12] == b"WAVE":
        other = "a WAV file"
    elif text.startswith((b"<!doctype html", b"<html")):
        other = "a web page"
    else:
        other = next((name for magic, name in _OTHERS.items() if start.startswith(magic)), "")
    if other:
        return f"This is {other}, not an image. Use {SUPPORTED}."
    return f"Unsupported image format. Use {SUPPORTED}."


def unsupported_image(start: bytes) -> str:
    """The name of an image format that is not read here; empty for anything else."""
    if start[4:8] == b"ftyp":
        brand = start[8:12]
        return "Canon CR3" if brand == b"crx " else "JPEG XL" if brand == b"jxl " else ""
    if b"<svg" in start.lower():
        return "SVG"
    return next((name for magic, name in _IMAGES.items() if start.startswith(magic)), "")
