"""A manifest as the client sees it: loaded from YAML or JSON, and the local files it names."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from glob import has_magic
from pathlib import Path
from typing import Any

import yaml

from oneblock.errors import InvalidFile

Manifest = Mapping[str, Any]


@dataclass(frozen=True)
class Document:
    """A manifest and the folder that its relative paths refer to."""

    manifest: Manifest
    base: Path
    text: str | None = None

    def body(self) -> dict[str, Any] | str:
        """What to send: the text as it was written, so that errors name its lines, where it can."""
        return self.text if self.text and not _relative(self.manifest) else self.plain()

    def plain(self) -> dict[str, Any]:
        """The manifest in JSON values alone: YAML's dates as text, relative folders absolute."""
        found: dict[str, Any] = json.loads(json.dumps(self.manifest, default=str))
        for destination in _destinations(found):
            url = destination.get("url")
            if destination.get("type") == "local" and isinstance(url, str) and _is_relative(url):
                destination["url"] = Path(os.path.normpath(self.base / url)).as_uri()
        return found

    def with_sources(self, replaced: Mapping[str, list[str]]) -> dict[str, Any]:
        """`plain` with each of those source URLs replaced by what it was uploaded to."""
        urls = [new for url in _urls(self.manifest) for new in replaced.get(url, [url])]
        found = self.plain()
        found["spec"]["source"]["url"] = urls if len(urls) > 1 else urls[0]
        return found


def load(source: Manifest | str | os.PathLike[str]) -> Document:
    """A mapping as it is; a path or the text of a manifest parsed. Raises InvalidFile."""
    if isinstance(source, Mapping):
        return Document(source, Path.cwd())
    if isinstance(source, str) and "\n" in source:
        return Document(_parse(source, "the manifest"), Path.cwd(), source)
    path = Path(source)
    text = read_text(path)
    return Document(_parse(text, str(path)), path.absolute().parent, text)


def read_text(path: Path) -> str:
    """The file's text. Raises InvalidFile."""
    try:
        return path.read_text("utf-8-sig")
    except OSError as error:
        raise InvalidFile(
            f"{path}: {error.strerror or error}", hint="give the path of a manifest with -f"
        ) from error
    except UnicodeDecodeError as error:
        raise InvalidFile(f"{path}: not UTF-8 text ({error.reason})") from error


def relative_sources(document: Document) -> dict[str, list[Path]]:
    """Each source URL that is a path on this machine, and the files it stands for."""
    return {
        url: _files(url, document.base) for url in _urls(document.manifest) if _is_relative(url)
    }


def readable(path: Path) -> Path:
    """The path of a regular file. Raises InvalidFile."""
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "no such file"
        raise InvalidFile(
            f"{path}: {what}", hint="give the paths of files: `oneblock upload FILE…`"
        )
    return path


def files_below(folder: Path) -> list[Path]:
    """Every file below a folder but hidden ones, sorted. Raises InvalidFile."""
    root = folder.absolute()
    found = [p for p in root.rglob("*") if p.is_file()]
    shown = [p for p in found if not _hidden(p.relative_to(root))]
    if not shown:
        raise InvalidFile(f"{folder}: no files in it", hint="hidden names (. and _) are left out")
    if empty := [p for p in shown if not p.stat().st_size]:
        raise InvalidFile(f"{empty[0]}: is empty; there is nothing to send of it")
    return sorted(shown)


def folder(path: Path) -> tuple[str, list[tuple[str, Path]]] | None:
    """A folder's name and its files, each with its path in it; None for a file."""
    if not path.is_dir():
        return None
    root = path.absolute()
    return root.name, [(file.relative_to(root).as_posix(), file) for file in files_below(root)]


def _hidden(path: Path) -> bool:
    return any(name.startswith((".", "_")) for name in path.parts)


def _urls(manifest: Manifest) -> list[str]:
    spec = manifest.get("spec")
    source = spec.get("source") if isinstance(spec, Mapping) else None
    url = source.get("url") if isinstance(source, Mapping) else None
    return [u for u in (url if isinstance(url, list) else [url]) if isinstance(u, str)]


def _is_relative(url: str) -> bool:
    return bool(url) and "://" not in url and not url.startswith("/")


def _relative(manifest: Manifest) -> bool:
    """Whether something in it is relative to its folder."""
    targets = [d.get("url") for d in _destinations(manifest) if d.get("type") == "local"]
    return any(isinstance(url, str) and _is_relative(url) for url in [*_urls(manifest), *targets])


def _destinations(manifest: Manifest) -> list[dict[str, Any]]:
    spec = manifest.get("spec")
    found = spec.get("destination") if isinstance(spec, dict) else None
    return [d for d in (found if isinstance(found, list) else [found]) if isinstance(d, dict)]


def _files(url: str, base: Path) -> list[Path]:
    path = base / url
    if path.is_dir():
        found = files_below(path)
    else:
        found = list(base.glob(url)) if has_magic(url) else [path]
    files = sorted(p.absolute() for p in found if p.is_file())
    if not files:
        raise InvalidFile(
            f"spec.source.url: {url}: no such file below {base}",
            hint="a path without a scheme is taken from the manifest's folder and uploaded",
        )
    return files


def _parse(text: str, where: str) -> Manifest:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        at = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        reason = getattr(error, "problem", None) or str(error)
        raise InvalidFile(f"{where}{at}: not YAML: {reason}") from error
    if not isinstance(value, Mapping):
        raise InvalidFile(f"{where}: a manifest is a mapping with apiVersion, kind and spec")
    return value
