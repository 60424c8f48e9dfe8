"""Names as they are written, and as they stand in a path."""

from __future__ import annotations

from urllib.parse import quote

from oneblock.errors import OneBlockError


def path_part(name: str) -> str:
    """A name as one segment of a path."""
    if name in ("", ".", ".."):
        raise OneBlockError(f"{name!r} is no name", hint="give the name of a file, dataset or run")
    return quote(name, safe="")


def full_name(dataset: str) -> str:
    """`namespace/name`; a bare name is one in `default`."""
    return dataset if "/" in dataset else f"default/{dataset}"


def dataset_path(dataset: str) -> str:
    """The dataset's path in both services."""
    namespace, _, name = full_name(dataset).partition("/")
    return f"/v1/datasets/{path_part(namespace)}/{path_part(name)}"
