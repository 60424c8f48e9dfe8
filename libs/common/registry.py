"""A folder is a registry: the file name is the key, the file's `PLUGIN` the entry."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from typing import Generic, TypeVar, cast

from libs.common.errors import PermanentError

T = TypeVar("T")


class Registry(Generic[T]):
    """The plug-ins of one package; each module is imported when it is first asked for."""

    def __init__(self, package: str, paths: Callable[[], list[str]], *, noun: str) -> None:
        self._package = package
        self._paths = paths
        self._noun = noun
        self._load = cache(self._import)

    def keys(self) -> list[str]:
        """Names of all plug-ins, sorted; imports none of them."""
        found = pkgutil.iter_modules(self._paths())
        return sorted(m.name for m in found if not m.name.startswith("_"))

    def get(self, key: str) -> T:
        """The plug-in called `key`; else PermanentError `unknown_<noun>` with the nearest name."""
        if key not in self.keys():
            near = get_close_matches(key, self.keys(), n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            known = ", ".join(self.keys())
            raise PermanentError(
                f"unknown {self._noun} {key!r}{hint}; known: {known}", code=f"unknown_{self._noun}"
            )
        return self._load(key)

    def _import(self, key: str) -> T:
        return cast(T, import_module(f"{self._package}.{key}").PLUGIN)
