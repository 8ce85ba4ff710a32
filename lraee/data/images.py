"""From a file's bytes to an RGB picture, with what had to be changed; or the reason why there is none.

The pixels are those of Pillow's `convert("RGB")`, as in torchvision's and timm's loaders, but for grey pictures of more
than 8 bits: Pillow clips those to white, here they are scaled, as Pillow itself does with colour. Turning a picture as
its EXIF orientation says and applying its colour profile are left out, as evaluations on ImageNet leave them out.
Damage inside compressed data that a decoder repairs without a word (JPEG's often do) cannot be seen.
"""

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image as PillowImage
from PIL import UnidentifiedImageError

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".webp", ".bmp", ".tif", ".tiff",
    ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".avif",
})  # fmt: skip
"""What an image's name ends with, in lower case."""

# What a file may contain, whatever its name: no format that is a program (EPS, PDF) is ever opened.
_FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")

MOST_PIXELS = 89_478_485
"""More pixels are refused: the number above which Pillow warns of a decompression bomb (358 MB in memory)."""
MOST_ELONGATED = 200
"""A picture longer than this many times its width is refused: resizing its short side to a model's makes it huge."""
MOST_BYTES = 2**30
"""A larger file is refused; MOST_PIXELS pixels of 4 x 16 bits take less."""

_COLOURS = {
    "1": "1-bit", "P": "palette", "PA": "palette", "CMYK": "CMYK", "YCbCr": "YCbCr", "LAB": "CIELAB", "RGBX": "RGBX",
}  # fmt: skip
_TRANSPARENT = ("RGBA", "RGBa", "LA", "La", "PA")
_TOO_MANY = f"more than {MOST_PIXELS:,} pixels"
_NO_RANGE = {"I": "32-bit or signed integers, range unknown", "F": "floating point, range unknown"}


class UnreadableImageError(ValueError):
    """A file gives no picture; the message is the reason, in the form that `Remark.reason` has."""


class Picture(NamedTuple):
    """An RGB image, and one reason for each conversion that made it so."""

    image: "Image"
    conversions: tuple[str, ...] = ()


def read_file(path: Path) -> Picture:
    """Read one file as `decode` does.

    Raises:
        UnreadableImageError: the content gives no picture.
        OSError: the file cannot be read at all, which says nothing about its content.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise UnreadableImageError("file larger than 1 GiB")
        content = path.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(
            f"image {path} is in the manifest but no longer there: restore it, or list the images anew with "
            "`snakemake --forcerun manifest`"
        ) from None
    return decode(content)


def decode(content: bytes) -> Picture:
    """Decode an encoded picture; UnreadableImageError where that fails, whatever the bytes are."""
    if not content:
        raise UnreadableImageError("empty file")
    try:
        with PillowImage.open(io.BytesIO(content), formats=_formats()) as raw:
            _check_size(*raw.size)
            return to_rgb(raw)
    except (UnreadableImageError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise UnreadableImageError("not recognised as an image") from error
    except PillowImage.DecompressionBombError as error:
        raise UnreadableImageError(_TOO_MANY) from error
    except Exception as error:  # Pillow has no common class for what broken content makes it raise
        raise UnreadableImageError(_damage(error)) from error


def to_rgb(raw: "Image") -> Picture:
    """Convert an opened picture, not yet loaded, to RGB.

    The first frame is taken of several, and transparency is dropped. UnreadableImageError where the range of the values
    is not known.
    """
    found = []
    frames, bits = getattr(raw, "n_frames", 1), _bits(raw)  # loading forgets the bits
    raw.load()
    if frames > 1:
        found.append(f"several frames, first one taken: {frames:,} frames")
    if bits > 8:
        found.append(f"{bits}-bit, scaled to 8")
    if raw.mode in _TRANSPARENT or "transparency" in raw.info:
        found.append("transparency, dropped")
    if raw.mode in _COLOURS:
        found.append(f"{_COLOURS[raw.mode]}, converted to RGB")
    if raw.mode.startswith("I;16") or (raw.mode == "I" and raw.format == "PPM"):
        grey = np.asarray(raw) >> (bits - 8)
        return Picture(PillowImage.fromarray(grey.astype(np.uint8)).convert("RGB"), tuple(found))
    if raw.mode in _NO_RANGE:
        raise UnreadableImageError(_NO_RANGE[raw.mode])
    return Picture(raw.convert("RGB"), tuple(found))


@contextmanager
def without_warnings() -> Iterator[None]:
    """Silence Pillow: what it warns of is in the remarks. Python's filters are global, so not for use in a thread."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


def _check_size(width: int, height: int) -> None:
    if width * height > MOST_PIXELS:
        raise UnreadableImageError(_TOO_MANY)
    if max(width, height) > MOST_ELONGATED * min(width, height):
        raise UnreadableImageError(f"one side more than {MOST_ELONGATED} times the other: {width} x {height}")


def _bits(raw: "Image") -> int:
    """Bits a channel of a picture that is not yet loaded, as far as Pillow tells (not for colour in JPEG 2000)."""
    stored = [str(tile[3]) for tile in raw.tile] if hasattr(raw, "tile") else []
    if raw.format in ("PNG", "TIFF"):
        deep = [int(bits) for args in stored for bits in re.findall(r";(12|16)", args)]
        return max(deep, default=8)
    if raw.format == "PPM":
        most = [int(value) for args in stored for value in re.findall(r", (\d+)\)", args)]
        return 16 if raw.mode == "I" or max(most, default=0) > 255 else 8
    return 16 if raw.mode.startswith("I;16") else 8


def _damage(error: Exception) -> str:
    """Name what Pillow could not decode."""
    message = " ".join(str(error).split())
    if "truncated" in message.lower():
        return "truncated file"
    return f"damaged file: {message[:200] or type(error).__name__}"


@cache
def _formats() -> tuple[str, ...]:
    """Those formats that this Pillow knows."""
    PillowImage.init()
    return tuple(name for name in _FORMATS if name in PillowImage.OPEN)
