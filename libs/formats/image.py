"""Images as they are encoded, with what their headers say; no pixel is decoded."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, cast

import pyarrow as pa
from pydantic import BaseModel, Field

from libs.common.errors import PermanentError
from libs.formats import FEATURE, OnBad, Open, ReadOptions, SourceFile, Split, Writer
from libs.formats import _files as files
from libs.formats import _keys as keys
from libs.formats._images import label_of, look
from libs.formats._signatures import kind_of
from libs.formats._trees import Leaves, Tree, TreeOptions, no_parts

IMAGE = pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])
FIELDS = [
    pa.field("image", IMAGE, metadata={FEATURE: json.dumps({"_type": "Image"})}),
    pa.field("width", pa.int32()),  # as stored, before `orientation` turns it
    pa.field("height", pa.int32()),
    pa.field("mode", pa.string()),
    pa.field("format", pa.string()),
    pa.field("orientation", pa.int32()),
]
LABEL = pa.field("label", pa.string())


class ImageOptions(files.FileOptions):
    """Reader options of image."""

    labelFromFolder: bool = False  # a column `label` with the name of the file's folder
    maxPixels: Annotated[int, Field(gt=0, le=1 << 32)] = 50_000_000
    maxFrames: Annotated[int, Field(gt=0, le=100_000)] = 1000


class Image:
    """The format image."""

    suffixes: tuple[str, ...] = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
    Options: type[BaseModel] = ImageOptions
    WriteOptions: type[BaseModel] = TreeOptions

    def __init__(self, on_bad: OnBad | None = None) -> None:
        self._on_bad = on_bad

    def tolerating(self, on_bad: OnBad) -> Image:
        return Image(on_bad)

    def splits(
        self, file: SourceFile, target: int, open: Open, options: BaseModel
    ) -> Iterable[Split]:
        return [files.whole(file)]

    def infer(self, split: Split, open: Open, options: BaseModel, limit: int | None) -> pa.Schema:
        label = cast(ImageOptions, options).labelFromFolder
        fields = [*FIELDS, LABEL] if label else FIELDS
        return pa.schema(fields)

    def join(self, schemas: Iterable[tuple[str, pa.Schema]]) -> pa.Schema:
        return next(schema for _, schema in schemas)

    def read(self, split: Split, open: Open, how: ReadOptions) -> Iterator[pa.RecordBatch]:
        return self.read_many([split], open, how)

    def read_many(
        self, splits: Sequence[Split], open: Open, how: ReadOptions
    ) -> Iterator[pa.RecordBatch]:
        options = cast(ImageOptions, how.options)
        rows = files.Gathering(how)
        if splits:
            keys.require_columns(how.key, how.schema.names, splits[0].path)
        for split, data in files.contents(splits, open, options.maxBytes):
            try:
                values = _values(split.path, data, options)
            except PermanentError as wrong:
                files.told(wrong, split, data, self._on_bad)
                continue
            content = cast(bytes, data)
            if not rows.fits(len(content)):
                yield from rows.flush()
            rows.add(split, (split.path,), content, values)
        yield from rows.flush()

    def writer(self, path: str, schema: pa.Schema, options: BaseModel) -> Writer:
        raise no_parts("image")

    def tree(self, folder: str, schema: pa.Schema, options: BaseModel, rows: int) -> Tree:
        made = [*(field.name for field in FIELDS), "label"]
        leaves = Leaves("image", ("image", "bytes"), made, _suffix)
        return Tree(folder, schema, cast(TreeOptions, options), leaves, rows)


def _values(path: str, data: bytes | PermanentError, options: ImageOptions) -> list[object]:
    if isinstance(data, PermanentError):
        raise data
    picture = look(data, path, options.maxPixels, options.maxFrames)
    values: list[object] = [{"bytes": data, "path": path}, *picture]
    return [*values, label_of(path)] if options.labelFromFolder else values


def _suffix(data: bytes, path: str | None) -> str:
    kind = kind_of(data[:32])
    if kind is None or not kind.image:
        name = f" (it was {path!r})" if path else ""
        raise PermanentError(
            f"a row's bytes are {kind.name if kind else 'no image'}{name}; write them as binary",
            code="inexpressible",
        )
    return kind.suffix


PLUGIN = Image()
