import io
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lraee.data import images
from lraee.data.images import MOST_ELONGATED, MOST_PIXELS, Picture, UnreadableImageError, decode, read_file
from lraee.models import vision_ops  # noqa: F401  (before torchvision)
from tests.data.encoded import claiming, png

from torchvision.datasets.folder import pil_loader  # isort: skip
from tests import examples

NOISE = np.random.default_rng(0).integers(0, 256, (24, 20, 3), dtype=np.uint8)
DEEP = np.random.default_rng(1).integers(0, 2**16, (24, 20, 4), dtype=np.uint16)


def _picture(mode: str = "RGB") -> Image.Image:
    if mode == "LAB":
        return Image.frombytes("LAB", (20, 24), NOISE.tobytes())
    return Image.fromarray(NOISE).convert(mode)


def _encoded(picture: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def _several(kind: str, mode: str = "RGB") -> bytes:
    others = [_picture(mode).rotate(90), _picture(mode).rotate(180)]
    return _encoded(_picture(mode), kind, save_all=True, append_images=others)


PALETTE, DROPPED = "palette, converted to RGB", "transparency, dropped"
FRAMES, ONE_BIT = "several frames, first one taken: 3 frames", "1-bit, converted to RGB"
CMYK, SCALED = "CMYK, converted to RGB", "16-bit, scaled to 8"

LIKE_TORCHVISION = {
    "jpeg": (_encoded(_picture(), "JPEG"), []),
    "progressive jpeg": (_encoded(_picture(), "JPEG", progressive=True), []),
    "grey jpeg": (_encoded(_picture("L"), "JPEG"), []),
    "cmyk jpeg": (_encoded(_picture("CMYK"), "JPEG"), [CMYK]),
    "cmyk tiff": (_encoded(_picture("CMYK"), "TIFF"), [CMYK]),
    "png": (_encoded(_picture(), "PNG"), []),
    "png in a palette": (_encoded(_picture("P"), "PNG"), [PALETTE]),
    "png in a palette with a clear colour": (_encoded(_picture("P"), "PNG", transparency=3), [DROPPED, PALETTE]),
    "png in a palette with alpha": (_encoded(_picture("P"), "PNG", transparency=b"\0\x80"), [DROPPED, PALETTE]),
    "png with alpha": (_encoded(_picture("RGBA"), "PNG"), [DROPPED]),
    "grey png with alpha": (_encoded(_picture("LA"), "PNG"), [DROPPED]),
    "grey png with a clear level": (_encoded(_picture("L"), "PNG", transparency=3), [DROPPED]),
    "png of 1 bit": (_encoded(_picture("1"), "PNG"), [ONE_BIT]),
    "pbm": (_encoded(_picture("1"), "PPM"), [ONE_BIT]),
    "ppm": (_encoded(_picture(), "PPM"), []),
    "bmp": (_encoded(_picture(), "BMP"), []),
    "tiff": (_encoded(_picture(), "TIFF", compression="tiff_lzw"), []),
    "tiff in YCbCr": (_encoded(_picture("YCbCr"), "TIFF"), ["YCbCr, converted to RGB"]),
    "tiff in Lab": (_encoded(_picture("LAB"), "TIFF"), ["CIELAB, converted to RGB"]),
    "webp": (_encoded(_picture(), "WEBP"), []),
    "jpeg 2000": (_encoded(_picture(), "JPEG2000"), []),
    "gif": (_encoded(_picture(), "GIF"), [PALETTE]),
    "animated gif": (_several("GIF", "P"), [FRAMES, PALETTE]),
    "animated png": (_several("PNG"), [FRAMES]),
    "animated webp": (_several("WEBP"), [FRAMES]),
    "pages of a tiff": (_several("TIFF"), [FRAMES]),
    "png of 3 x 16 bits": (png(DEEP[..., :3], 2, 16), [SCALED]),
    "png of 4 x 16 bits": (png(DEEP, 6, 16), [SCALED, DROPPED]),
    "grey png of 16 bits with alpha": (png(DEEP[..., :2], 4, 16), [SCALED, DROPPED]),
    "ppm of 3 x 16 bits": (b"P6 20 24 65535\n" + DEEP[..., :3].astype(">u2").tobytes(), [SCALED]),
}


@pytest.mark.filterwarnings("ignore:Palette images with Transparency")
@pytest.mark.parametrize("name", LIKE_TORCHVISION)
def test_pixels_are_those_of_torchvision_and_conversions_are_told(tmp_path: Path, name: str) -> None:
    content, conversions = LIKE_TORCHVISION[name]
    (tmp_path / "picture").write_bytes(content)
    picture = read_file(tmp_path / "picture")
    assert picture.image.mode == "RGB"
    assert list(picture.conversions) == conversions
    np.testing.assert_array_equal(np.asarray(picture.image), np.asarray(pil_loader(tmp_path / "picture")))


@pytest.mark.skipif("AVIF" not in images._formats(), reason="this Pillow has no AVIF")
def test_avif_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.avif").write_bytes(_encoded(_picture("RGBA").rotate(45), "AVIF"))
    picture = read_file(tmp_path / "a.avif")
    assert picture.conversions == (DROPPED,)
    np.testing.assert_array_equal(np.asarray(picture.image), np.asarray(pil_loader(tmp_path / "a.avif")))


DEEP_GREY = {
    "png": png(DEEP[..., :1], 0, 16),
    "tiff": _encoded(Image.fromarray(DEEP[..., 0]), "TIFF"),
    "packed tiff": _encoded(Image.fromarray(DEEP[..., 0]), "TIFF", compression="tiff_lzw"),
    "pgm": b"P5 20 24 65535\n" + DEEP[..., 0].astype(">u2").tobytes(),
    "jpeg 2000": _encoded(Image.fromarray(DEEP[..., 0]), "JPEG2000"),
}


@pytest.mark.parametrize("name", DEEP_GREY)
def test_grey_of_16_bits_is_scaled_and_not_clipped(name: str) -> None:
    picture = decode(DEEP_GREY[name])
    assert picture.conversions == (SCALED,)
    expected = np.repeat((DEEP[..., :1] // 256).astype(np.uint8), 3, axis=2)
    np.testing.assert_array_equal(np.asarray(picture.image), expected)


def test_grey_of_12_bits_is_scaled_by_its_own_range() -> None:
    """A TIFF of two pixels, 4095 and 2048, packed in three bytes."""
    tags = [(256, 2), (257, 1), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (278, 1), (279, 3)]
    entries = b"".join(
        np.array([tag, 4], "<u2").tobytes() + np.array([1, value], "<u4").tobytes() for tag, value in tags
    )
    content = b"II*\0\x0c\0\0\0" + b"\xff\xf8\x00\0" + np.array([len(tags)], "<u2").tobytes() + entries + bytes(4)
    picture = decode(content)
    assert picture.conversions == ("12-bit, scaled to 8",)
    assert np.asarray(picture.image)[0, :, 0].tolist() == [255, 128]


def _reason(content: bytes) -> str:
    with pytest.raises(UnreadableImageError) as caught:
        decode(content)
    return str(caught.value)


def _compressed(kind: str, **options: object) -> bytes:
    return _encoded(_picture(), kind, **options)


REFUSED = {
    "empty file": b"",
    "not recognised as an image": b"<html>404</html>",
    "truncated file": _compressed("JPEG")[:-200],
    "more than 89,478,485 pixels": claiming(9_460, 9_460),
    "one side more than 200 times the other: 201 x 1": _encoded(Image.new("L", (MOST_ELONGATED + 1, 1)), "PNG"),
    "32-bit or signed integers, range unknown": _encoded(Image.new("I", (4, 4)), "TIFF"),
    "floating point, range unknown": _encoded(Image.new("F", (4, 4)), "TIFF"),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_gives_no_picture_has_its_reason(reason: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        assert _reason(REFUSED[reason]) == reason


@pytest.mark.parametrize("pixels", [MOST_PIXELS + 1, 2 * MOST_PIXELS, 2 * MOST_PIXELS + 1, 3 * 10**9])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_too_many_pixels_are_one_reason_whether_pillow_warns_or_raises(pixels: int) -> None:
    assert _reason(claiming(60_000, -(-pixels // 60_000))) == "more than 89,478,485 pixels"


def test_the_limits_themselves_are_allowed() -> None:
    assert decode(_encoded(Image.new("L", (MOST_ELONGATED, 1)), "PNG")).image.size == (MOST_ELONGATED, 1)
    assert _reason(claiming(9_459, 9_459)) == "truncated file"  # 8,000 pixels below the limit, and then read


@pytest.mark.parametrize("kind", ["EPS", "PDF", "ICO", "PCX", "TGA"])
def test_no_format_is_opened_that_is_a_program_or_that_nobody_asked_for(kind: str) -> None:
    assert _reason(_encoded(_picture(), kind)) == "not recognised as an image"


def test_the_orientation_of_exif_is_ignored() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned, plain = (decode(_encoded(_picture(), "JPEG", exif=e)).image for e in (exif, Image.Exif()))
    assert turned.size == (20, 24)
    assert np.array_equal(np.asarray(turned), np.asarray(plain))


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "sparse.jpg").open("wb") as file:
        file.truncate(images.MOST_BYTES + 1)
    with pytest.raises(UnreadableImageError, match="file larger than 1 GiB"):
        read_file(tmp_path / "sparse.jpg")


def test_lack_of_memory_is_not_blamed_on_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(raw: Image.Image) -> Picture:
        raise MemoryError

    monkeypatch.setattr(images, "to_rgb", fails)
    with pytest.raises(MemoryError):
        decode(_compressed("PNG"))


WHOLE = {
    "jpeg": _compressed("JPEG"),
    "progressive jpeg": _compressed("JPEG", progressive=True),
    "png": _compressed("PNG"),
    "palette png": _encoded(_picture("P"), "PNG"),
    "animated png": _several("PNG"),
    "gif": _compressed("GIF"),
    "animated gif": _several("GIF", "P"),
    "tiff": _compressed("TIFF"),
    "packed tiff": _compressed("TIFF", compression="tiff_adobe_deflate"),
    "tiff of jpeg": _compressed("TIFF", compression="jpeg"),
    "webp": _compressed("WEBP"),
    "lossless webp": _compressed("WEBP", lossless=True),
    "animated webp": _several("WEBP"),
    "bmp": _compressed("BMP"),
    "ppm": _compressed("PPM"),
    "jpeg 2000": _compressed("JPEG2000"),
}
REASON = re.compile(
    r"(truncated file|not recognised as an image|damaged file: .+|one side more than .+|more than .+ pixels"
    r"|empty file|.+, range unknown)"
)


def _outcome(content: bytes) -> tuple[object, ...]:
    try:
        picture = decode(content)
    except UnreadableImageError as error:
        return (str(error),)
    return picture.image.mode, picture.conversions, picture.image.tobytes()


def _picture_or_reason(content: bytes) -> None:
    """Whatever the bytes are, decoding gives a picture in RGB or a reason, the same again, and nothing else."""
    first, *rest = outcome = _outcome(content)
    assert first == "RGB" if rest else REASON.fullmatch(str(first))
    assert " at 0x" not in str(first)
    assert _outcome(content) == outcome


@settings(max_examples=examples(67))
@given(st.binary(max_size=400))
@pytest.mark.filterwarnings("ignore")
def test_any_bytes_give_a_picture_or_a_reason(content: bytes) -> None:
    _picture_or_reason(content)


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.filterwarnings("ignore")
def test_a_picture_cut_anywhere_gives_a_picture_or_a_reason(name: str) -> None:
    whole = WHOLE[name]
    for length in range(0, len(whole), max(1, len(whole) // 150)):
        _picture_or_reason(whole[:length])


@settings(max_examples=examples(13))
@given(data=st.data())
@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.filterwarnings("ignore")
def test_flipped_bits_give_a_picture_or_a_reason(name: str, data: st.DataObject) -> None:
    content = bytearray(WHOLE[name])
    # Headers are where damage does most.
    places = st.integers(0, 8 * min(80, len(content)) - 1) | st.integers(0, 8 * len(content) - 1)
    for place in data.draw(st.lists(places, min_size=1, max_size=6)):
        content[place // 8] ^= 1 << place % 8
    _picture_or_reason(bytes(content))


@settings(max_examples=examples(20))
@given(head=st.sampled_from(sorted(WHOLE)), size=st.integers(4, 200), tail=st.binary(max_size=300))
@pytest.mark.filterwarnings("ignore")
def test_a_header_followed_by_rubbish_gives_a_picture_or_a_reason(head: str, size: int, tail: bytes) -> None:
    _picture_or_reason(WHOLE[head][:size] + tail)


def test_the_real_photographs_are_all_read_and_none_converted_in_silence(real_data: Path) -> None:
    files = sorted((real_data / "photos").glob("*/*")) or sorted((real_data / "photos").glob("*.JPEG"))
    assert len(files) == 250
    greys = 0
    for file in files[::10]:
        picture = read_file(file)
        with Image.open(file) as raw:
            greys += raw.mode == "L"
            assert bool(picture.conversions) == (raw.mode not in ("RGB", "L"))
        np.testing.assert_array_equal(np.asarray(picture.image), np.asarray(pil_loader(file)))
