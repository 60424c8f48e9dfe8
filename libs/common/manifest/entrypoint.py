"""What `spec.entrypoint` names: a function over batches, or a whole Ray job."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import Literal, NoReturn

from pydantic_core import PydanticCustomError

_FILE = r"/?[\w@+-][\w@+.-]*(?:/[\w@+-][\w@+.-]*)*\.py"
_NAME = r"[A-Za-z_]\w*"
_FUNCTION = re.compile(rf"({_FILE}|{_NAME}(?:\.{_NAME})*):({_NAME}(?:\.{_NAME})*)")
_SCRIPT = re.compile(rf"(?:\./)?{_FILE}")
_SHELL = re.compile(r"[;&|<>$`()!\\\n\r\0]")
FORMS = "file.py:function, package.module:function, or python script.py arguments…"


@dataclass(frozen=True)
class Entrypoint:
    """`target` is a file or a module; `function` is empty for a script."""

    kind: Literal["function", "script"]
    target: str
    function: str = ""
    arguments: tuple[str, ...] = ()


def read(text: str) -> Entrypoint:
    """Told apart by shape. Nothing that a shell would treat as more than words is let through."""
    if _SHELL.search(text):
        _refuse("characters of a shell (; & | < > $ ` ( ) ! \\) are not allowed")
    if ".." in re.split(r"[/\s:]", text):
        _refuse("'..' is not allowed")
    if function := _FUNCTION.fullmatch(text.strip()):
        return Entrypoint("function", function[1], function[2])
    words = _words(text)
    if len(words) >= 2 and words[0] in ("python", "python3") and _SCRIPT.fullmatch(words[1]):
        return Entrypoint("script", words[1], "", tuple(words[2:]))
    _refuse("not an entrypoint")


def check(text: str) -> str:
    """`text` where it has one of the forms."""
    read(text)
    return text


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        _refuse("a quote is not closed")


def _refuse(detail: str) -> NoReturn:
    raise PydanticCustomError(
        "invalid_value", "{detail}; allowed: {forms}", {"detail": detail, "forms": FORMS}
    )
