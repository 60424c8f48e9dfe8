"""URLs of sources and destinations: which there are, and what none of them may hold."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from typing import NoReturn
from urllib.parse import SplitResult, unquote, urlsplit

from pydantic_core import PydanticCustomError

SOURCE_SCHEMES = ("upload", "http", "https", "nfs", "s3", "file")
DESTINATION_SCHEMES = {
    "local": ("file",),
    "nfs": ("nfs",),
    "s3": ("s3",),
    "qdrant": ("http", "https"),
}
MAX_LENGTH = 4096
_SECRETS = re.compile(  # query parameters that are credentials, presigned URLs among them
    r"(?:^|[&;])(x-amz-(?:signature|credential|security-token)|x-goog-(?:signature|credential)|"
    r"awsaccesskeyid|signature|sig|password|passwd|pwd|secret|access_?token|token|api_?key|"
    r"client_secret|private_key)=",
    re.IGNORECASE,
)


def source(url: str) -> str:
    """`url` where it may be a source; raises for pydantic, never with a credential in the text."""
    if url.startswith("/"):
        _refuse("invalid_value", "no scheme; a path on the server's disk is written file:///…")
    _check(url, SOURCE_SCHEMES)
    return url


def destination(url: str) -> str:
    """`url` where some kind of destination may be there; an absolute path is a local folder."""
    schemes = tuple(s for some in DESTINATION_SCHEMES.values() for s in some)
    _check("file://" + url if url.startswith("/") else url, schemes)
    return url


def cluster(url: str) -> str:
    """`url` of a Ray cluster's client server."""
    _check(url, ("ray",))
    return url


def scheme(url: str) -> str:
    """The scheme in lower case; a path's is `file`, "" where there is none."""
    if url.startswith("/"):
        return "file"
    return url.partition("://")[0].lower() if "://" in url else ""


def shown(url: str) -> str:
    """The URL as it may be logged: without user, password, query and fragment."""
    head, mark, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    host = authority.rpartition("@")[2]
    return re.split(r"[?#]", f"{head}{mark}{host}{slash}{path}", maxsplit=1)[0] if mark else "…"


def _check(url: str, schemes: tuple[str, ...]) -> None:
    if not url or len(url) > MAX_LENGTH:
        _refuse("invalid_value", f"a URL has 1 to {MAX_LENGTH} characters")
    if any(ord(letter) < 32 or letter in "\x7f\\" for letter in url) or url != url.strip():
        _refuse("invalid_value", "control characters, '\\' and outer spaces are not allowed")
    if scheme(url) not in schemes:
        _unknown_scheme(url, schemes)
    parts = _split(url)
    _credentials(parts)
    _authority(parts)
    _path(url.partition("://")[2].partition("/")[2])


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        _refuse("invalid_value", "not a URL: host or port can't be read")
    return parts


def _unknown_scheme(url: str, schemes: tuple[str, ...]) -> NoReturn:
    known = ", ".join(f"{name}://" for name in schemes)
    if "://" not in url:
        _refuse(
            "invalid_value",
            f"no scheme; known: {known} (a local file: `oneblock upload FILE` gives its upload://)",
        )
    found = scheme(url)
    said = f"unknown scheme {found!r}" if re.fullmatch(r"[a-z0-9+.-]{1,40}", found) else "no scheme"
    _refuse("invalid_value", f"{said}; known: {known}")


def _credentials(parts: SplitResult) -> None:
    user, at, _ = parts.netloc.rpartition("@")
    opaque = parts.scheme in ("file", "upload")
    if at and (":" in user or not opaque):
        _refuse("userinfo_forbidden", "a user or password in a URL; name credentials by secretRef")
    if _SECRETS.search(parts.query):
        _refuse("inline_secret", "credentials in the URL's query; name them by secretRef")


def _authority(parts: SplitResult) -> None:
    if parts.scheme == "file":
        if parts.netloc not in ("", "localhost"):
            _refuse("invalid_value", "a file's URL has three slashes and a path: file:///data/in")
        if not parts.path.startswith("/"):
            _refuse("invalid_value", "a file's URL has an absolute path: file:///data/in")
    elif not parts.netloc:
        _refuse("invalid_value", f"no host, bucket or name after {parts.scheme}://")
    elif parts.scheme != "upload" and not parts.hostname:
        _refuse("invalid_value", f"no host or bucket after {parts.scheme}://")


def _path(path: str) -> None:
    for text in (path, unquote(path), unquote(unquote(path))):
        if "\0" in text or "\\" in text:
            _refuse("invalid_value", "NUL and '\\' are not allowed in a path")
        if ".." in re.split(r"[/?#]", text):
            _refuse("invalid_value", "'..' is not allowed in a path; write it out")


def _refuse(code: str, detail: str) -> NoReturn:
    raise PydanticCustomError(code, "{detail}", {"detail": detail})


@dataclass(frozen=True)
class Place:
    """A URL in normal form, so that two spellings of one place are equal."""

    scheme: str
    host: str
    parts: tuple[str, ...]

    @classmethod
    def of(cls, url: str) -> Place | None:
        """None for what is no URL."""
        try:
            split = urlsplit("file://" + url if url.startswith("/") else url)
            port = split.port
        except ValueError:
            return None
        host = (split.hostname or "") + (f":{port}" if port else "")
        host = "" if split.scheme == "file" else host
        path = posixpath.normpath(unquote(split.path) or "/")
        return cls(split.scheme, host, tuple(part for part in path.split("/") if part))

    def covers(self, folder: Place) -> bool:
        """Whether this source (file, folder, prefix or glob) finds files written into `folder`."""
        if (self.scheme, self.host) != (folder.scheme, folder.host):
            return False
        globs = [at for at, part in enumerate(self.parts) if re.search(r"[*?\[]", part)]
        if not globs:
            return folder.parts[: len(self.parts)] == self.parts
        if "**" in self.parts:
            base = self.parts[: globs[0]]
            return folder.parts[: len(base)] == base
        if len(self.parts) <= len(folder.parts):
            return False
        pairs = zip(self.parts, folder.parts, strict=False)
        return all(re.search(r"[*?\[]", part) or part == name for part, name in pairs)
