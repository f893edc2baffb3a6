"""Pictures inside the page: freshly encoded copies without metadata, small ones as they are, larger ones
shrunk."""

from __future__ import annotations

import base64
import io

from PIL import Image

SMALL = 128  # pixels; pictures up to this size are embedded as they are and scaled up in whole pixels
THUMBNAIL = 384


def data_uri(image: Image.Image) -> tuple[str, bool]:
    """(data URI, small enough to scale by pixels)."""
    buffer = io.BytesIO()
    small = max(image.size) <= SMALL
    if small:
        image.save(buffer, "PNG", optimize=True)
    else:
        image.thumbnail((THUMBNAIL, THUMBNAIL))
        image.save(buffer, "JPEG", quality=82)
    kind = "png" if small else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}", small
