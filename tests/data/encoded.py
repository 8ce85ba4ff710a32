"""Encoded pictures that Pillow reads but does not write, for the tests of this folder."""

import io
import struct
import zlib

import numpy as np
from PIL import Image


def claiming(width: int, height: int) -> bytes:
    """A BMP of a few bytes whose header claims a size."""
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, "BMP")
    header = bytearray(buffer.getvalue())
    header[18:26] = struct.pack("<II", width, height)
    return bytes(header)


def png(values: np.ndarray, colour_type: int, bits: int) -> bytes:
    """A PNG of `values` (height, width, channels), written after its specification (ISO/IEC 15948)."""
    height, width = values.shape[:2]
    rows = values.astype(">u2" if bits == 16 else "u1").reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    scanlines = b"".join(b"\0" + row.tobytes() for row in rows)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(scanlines)), (b"IEND", b""))
    chunks = (struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
              for kind, data in parts)  # fmt: skip
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
