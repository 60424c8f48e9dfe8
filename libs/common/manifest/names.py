"""Names, labels and annotations as Kubernetes wants them (RFC 1123)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from pydantic_core import PydanticCustomError

from libs.common.errors import Problem
from libs.common.manifest.values import join

LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
SUBDOMAIN = rf"{LABEL}(\.{LABEL})*"
_QUALIFIED = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_ANNOTATIONS = 256 * 1024  # bytes, all together
_RULE = "lower-case letters, digits and '-', beginning and ending with a letter or digit"


def subdomain(name: str) -> str:
    """`name` where it is a DNS subdomain (names of things); else `invalid_name`."""
    if len(name) > 253 or not re.fullmatch(SUBDOMAIN, name):
        raise _invalid(name, f"at most 253 of {_RULE}; parts may be joined by '.'")
    return name


def label(name: str) -> str:
    """`name` where it is a DNS label (namespaces); else `invalid_name`."""
    if len(name) > 63 or not re.fullmatch(LABEL, name):
        raise _invalid(name, f"at most 63 of {_RULE}")
    return name


def _invalid(name: str, rule: str) -> PydanticCustomError:
    shown = f"{name[:60]!r}" + ("…" if len(name) > 60 else "")
    return PydanticCustomError(
        "invalid_name", "{shown} is no name; allowed: {rule}", {"shown": shown, "rule": rule}
    )


def metadata_problems(metadata: Mapping[str, object]) -> Iterator[Problem]:
    """What is wrong with labels and annotations."""
    for kind in ("labels", "annotations"):
        pairs = metadata.get(kind)
        if isinstance(pairs, Mapping):
            for key, value in pairs.items():
                yield from _pair(kind, str(key), value)
    annotations = metadata.get("annotations")
    if isinstance(annotations, Mapping):
        size = sum(len(f"{key}{value}".encode()) for key, value in annotations.items())
        if size > _ANNOTATIONS:
            detail = f"{size} bytes together; at most {_ANNOTATIONS} are allowed"
            yield Problem("invalid_value", detail, "metadata.annotations")


def _pair(kind: str, key: str, value: object) -> Iterator[Problem]:
    path = join(f"metadata.{kind}", key)
    prefix, slash, name = key.rpartition("/")
    if slash and (len(prefix) > 253 or not re.fullmatch(SUBDOMAIN, prefix)):
        yield Problem("invalid_name", "what stands before '/' must be a DNS name", path)
    if len(name) > 63 or not _QUALIFIED.fullmatch(name):
        yield Problem(
            "invalid_name",
            "a key has at most 63 letters, digits, '-', '_' and '.', "
            "beginning and ending with a letter or digit; before it a DNS name and '/' may stand",
            path,
        )
    text = kind == "labels" and isinstance(value, str) and bool(value)
    if text and (len(str(value)) > 63 or not _QUALIFIED.fullmatch(str(value))):
        yield Problem(
            "invalid_value",
            "a label's value has at most 63 letters, digits, '-', '_' and '.', beginning and "
            "ending with a letter or digit; longer text belongs into annotations",
            path,
        )
