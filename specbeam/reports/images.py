"""Pictures made smaller: thumbnails, and figures that have to fit into a page of limited size."""

import base64
import io


def shrunk(data: bytes, width: int, colours: int) -> tuple[str, bytes] | None:
    """MIME type and bytes of a picture, at most `width` pixels wide, on white: as PNG with few colours, or as JPEG.

    Charts are smaller as the one, photographs as the other. None when the bytes are no picture that can be read.
    """
    from PIL import Image  # comes with matplotlib; here, because only reports need it

    try:
        with Image.open(io.BytesIO(data)) as opened:
            picture = opened.convert("RGBA")
    except Exception:  # Pillow raises many types for broken files, and one for pictures that are suspiciously large
        return None
    canvas = Image.new("RGBA", picture.size, "white")
    canvas.alpha_composite(picture)
    flat = canvas.convert("RGB")
    if flat.width > width:
        flat = flat.resize((width, max(1, round(flat.height * width / flat.width))), Image.Resampling.LANCZOS)
    found = []
    for kind, image, options in (
        ("png", flat.quantize(colours, dither=Image.Dither.NONE), {"optimize": True}),
        ("jpeg", flat, {"quality": 80, "optimize": True}),
    ):
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        found.append((f"image/{kind}", buffer.getvalue()))
    return min(found, key=lambda item: len(item[1]))


def data_uri(kind: str, data: bytes) -> str:
    """A picture as the address that holds it."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
