"""Small real files of every kind that tests read as text, image or binary."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path

import pyarrow as pa
from docx import Document
from PIL import Image

from libs.formats import (
    FORMATS,
    FileFormat,
    Leaf,
    OnBad,
    ReadOptions,
    SourceFile,
    Tolerant,
    parse_options,
)
from libs.formats._keys import full_schema
from tests.formats import WHOLE, open_path

IMAGES = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
ORIENTATION = 0x0112
FONT = b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"


def image(
    format: str = "PNG",
    size: tuple[int, int] = (40, 30),
    mode: str = "RGB",
    *,
    orientation: int | None = None,
    frames: int = 1,
    seed: int = 0,
    **options: object,
) -> bytes:
    """An encoded picture; another seed is another picture."""
    picture = Image.new("RGB", size, (seed % 251, seed // 251 % 251, 7)).convert(mode)
    picture.putpixel((0, 0), Image.new("RGB", (1, 1), "white").convert(mode).getpixel((0, 0)))
    if orientation is not None:
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        options["exif"] = exif
    if frames > 1:
        more = [picture.rotate(10 * i) for i in range(1, frames)]
        options |= {"save_all": True, "append_images": more}
    out = BytesIO()
    picture.save(out, format, **options)
    return out.getvalue()


def pdf(pages: Sequence[str]) -> bytes:
    """A PDF with a line of text on each page; an empty text is a page of none."""
    kids = " ".join(f"{4 + 2 * i} 0 R" for i in range(len(pages)))
    parts = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        f"<</Type/Pages/Kids[{kids}]/Count {len(pages)}>>".encode(),
        FONT,
    ]
    for i, text in enumerate(pages):
        drawn = f"BT /F1 12 Tf 20 100 Td ({text}) Tj ET" if text else "0 0 9 9 re f"
        page = f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 300 200]/Contents {5 + 2 * i} 0 R"
        parts.append(f"{page}/Resources<</Font<</F1 3 0 R>>>>>>".encode())
        parts.append(f"<</Length {len(drawn)}>>stream\n{drawn}\nendstream".encode())
    out, places = bytearray(b"%PDF-1.4\n"), []
    for number, part in enumerate(parts, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, part)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(parts) + 1)
    out += b"".join(b"%010d 00000 n \n" % place for place in places)
    out += b"trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (len(parts) + 1, start)
    return bytes(out)


def docx(paragraphs: Sequence[str], cells: Sequence[str] = ()) -> bytes:
    """A Word document: paragraphs, then a table of one row."""
    document = Document()
    for text in paragraphs:
        document.add_paragraph(text)
    if cells:
        row = document.add_table(1, len(cells)).rows[0]
        for cell, text in zip(row.cells, cells, strict=True):
            cell.text = text
    out = BytesIO()
    document.save(out)
    return out.getvalue()


# A page of text, encrypted (RC4, 128 bits) with the password "secret".
ENCRYPTED_PDF = base64.b64decode(
    "JVBERi0xLjQKJeLjz9MKMiAwIG9iago8PAovVHlwZSAvUGFnZXMKL0NvdW50IDEKL0tpZHMgWyA0IDAgUiBdCj4+Cm"
    "VuZG9iagozIDAgb2JqCjw8Ci9UeXBlIC9DYXRhbG9nCi9QYWdlcyAyIDAgUgovT3V0bGluZXMgNyAwIFIKPj4KZW5k"
    "b2JqCjQgMCBvYmoKPDwKL1R5cGUgL1BhZ2UKL01lZGlhQm94IFsgMCAwIDMwMCAyMDAgXQovQ29udGVudHMgNSAwIF"
    "IKL1Jlc291cmNlcyA8PAovRm9udCA8PAovRjEgNiAwIFIKPj4KPj4KL1BhcmVudCAyIDAgUgo+PgplbmRvYmoKNSAw"
    "IG9iago8PAovTGVuZ3RoIDM3Cj4+CnN0cmVhbQo0a6c/zciHs7/yi6qZGKxMX14rwQ3ui2vM7Mi1vNh33slg3ifKCm"
    "VuZHN0cmVhbQplbmRvYmoKNiAwIG9iago8PAovVHlwZSAvRm9udAovU3VidHlwZSAvVHlwZTEKL0Jhc2VGb250IC9I"
    "ZWx2ZXRpY2EKPj4KZW5kb2JqCjcgMCBvYmoKPDwKPj4KZW5kb2JqCjggMCBvYmoKPDwKL1YgMgovUiAzCi9MZW5ndG"
    "ggMTI4Ci9QIDQyOTQ5NjcyOTIKL0ZpbHRlciAvU3RhbmRhcmQKL08gPDBlNTIyOTI1YTNlNGU4NzRjM2NmYWNiZWY1"
    "MTFhNzNhYzRlYzJiZDg2NWRjZDNkNDYyNzYxNDkxN2FiZmQ3ZTQ+Ci9VIDwyNDNmZTNhMDNlMTg3NzcwMDg1MjQ3Ym"
    "EyODE1YzBhNjI4YmY0ZTVlNGU3NThhNDE2NDAwNGU1NmZmZmEwMTA4Pgo+PgplbmRvYmoKeHJlZgowIDkKMDAwMDAw"
    "MDAwMSA2NTUzNSBmIAowMDAwMDAwMDAwIDAwMDAxIGYgCjAwMDAwMDAwMTUgMDAwMDAgbiAKMDAwMDAwMDA3NCAwMD"
    "AwMCBuIAowMDAwMDAwMTM5IDAwMDAwIG4gCjAwMDAwMDAyNjcgMDAwMDAgbiAKMDAwMDAwMDM1NCAwMDAwMCBuIAow"
    "MDAwMDAwNDI0IDAwMDAwIG4gCjAwMDAwMDA0NDUgMDAwMDAgbiAKdHJhaWxlcgo8PAovU2l6ZSA5Ci9Sb290IDMgMC"
    "BSCi9JRCBbIDw4YTFmYjRjZWIyMTlmNjViNDcxNTBlNWZjYWY0YWMyMj4gPDhhMWZiNGNlYjIxOWY2NWI0NzE1MGU1"
    "ZmNhZjRhYzIyPiBdCi9FbmNyeXB0IDggMCBSCj4+CnN0YXJ0eHJlZgo2NjAKJSVFT0YK"
)


def samples(kind: str, count: int) -> dict[str, bytes]:
    """Different good files for a format, by path."""
    if kind == "image":
        found = [image(IMAGES[i % 6], seed=i) for i in range(count)]
        return {f"{i % 3}/{i:04}.{IMAGES[i % 6].lower()}": data for i, data in enumerate(found)}
    if kind == "text":
        return {f"{i % 3}/{i:04}.txt": f"text {i},\nünd\n\nmore".encode() for i in range(count)}
    return {f"{i % 3}/{i:04}.bin": bytes([i % 256, 0, 255]) * (i + 1) for i in range(count)}


def put(folder: Path, found: Mapping[str, bytes]) -> Path:
    """Writes files below a folder."""
    for path, data in found.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return folder


def read_folder(
    kind: str,
    folder: Path,
    *,
    key: tuple[str, ...] = (),
    on_bad: OnBad | None = None,
    target: int = WHOLE,
    **options: object,
) -> pa.Table:
    """All rows of a folder's files in the order of their paths, as a worker reads them."""
    plugin = FORMATS.get(kind)
    assert isinstance(plugin, FileFormat)
    how = parse_options(plugin.Options, options, "spec.source.options")
    if on_bad is not None:
        assert isinstance(plugin, Tolerant)
        plugin = plugin.tolerating(on_bad)
        assert isinstance(plugin, FileFormat)
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    files = [SourceFile(str(p), p.relative_to(folder).as_posix(), p.stat().st_size) for p in paths]
    splits = [s for file in files for s in plugin.splits(file, target, open_path, how)]
    schema = plugin.join([(splits[0].path, plugin.infer(splits[0], open_path, how, 1))])
    batches = list(plugin.read_many(splits, open_path, ReadOptions(schema, how, key)))
    for batch in batches:
        assert 0 < batch.num_rows <= 1 << 16
        batch.validate(full=True)
    return pa.Table.from_batches(batches, full_schema(schema))


def grow(kind: str, folder: Path, table: pa.Table, **options: object) -> list[Leaf]:
    """A file per row, as a sink writes them; the table has its system columns."""
    plugin = FORMATS.get(kind)
    assert isinstance(plugin, FileFormat)
    how = parse_options(plugin.WriteOptions, options, "spec.destination.options")
    folder.mkdir(exist_ok=True)
    tree = plugin.tree(str(folder), table.schema, how, table.num_rows)
    assert tree is not None
    return [leaf for batch in table.to_batches(1000) for leaf in tree.write(batch)]
