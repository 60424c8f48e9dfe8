"""YAML or JSON text → plain JSON values, safely: no tags, no bombs, no duplicate keys."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import NoReturn

import yaml

from libs.common.errors import Problem
from libs.common.manifest.errors import ManifestError
from libs.common.manifest.values import MAX_DEPTH, MAX_VALUES, unfit

MAX_BYTES = 512 * 1024
MAX_ALIASES = 64
MAX_PROBLEMS = 100  # told at once; the rest of a hopeless manifest stays untold
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml where the wheel has it

_JSON_SHAPED = re.compile(r'\s*\{\s*(["}]|$)')
_KNOWN_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("map", "seq", "str")}
# Plain scalars by the core schema of YAML 1.2: `no`, `on`, `1:30` and dates stay strings.
_NULL = re.compile(r"null|Null|NULL|~|")
_TRUE, _FALSE = re.compile(r"true|True|TRUE"), re.compile(r"false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


def read(text: str | bytes) -> dict[str, object]:
    """The mapping that a YAML or JSON text holds; raises ManifestError `invalid_yaml`."""
    source = _decode(text)
    value = _json(source) if _JSON_SHAPED.match(source) else _Yaml(source).document()
    return mapping(value)


def mapping(value: object) -> dict[str, object]:
    """`value` as a manifest's outermost mapping, all JSON values; else ManifestError."""
    if not isinstance(value, Mapping):
        kind = "empty" if value is None else f"a {type(value).__name__}"
        _refuse(f"a manifest is a mapping with apiVersion, kind, metadata, spec; this is {kind}")
    if problems := tuple(islice(unfit(value), MAX_PROBLEMS)):
        raise ManifestError(problems)
    return dict(value)


def too_large(size: int) -> ManifestError:
    """The error for a manifest of `size` bytes."""
    detail = f"the manifest has {size} bytes; at most {MAX_BYTES} are allowed"
    return ManifestError([Problem("too_large", detail)])


def _refuse(detail: str, line: int | None = None) -> NoReturn:
    where = "" if line is None else f"line {line}: "
    raise ManifestError([Problem("invalid_yaml", where + detail)])


def _decode(text: str | bytes) -> str:
    size = len(text)
    if size > MAX_BYTES:
        raise too_large(size)
    if isinstance(text, str):
        return text.removeprefix("\ufeff")
    try:
        return text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        _refuse(f"not UTF-8 at byte {error.start}")


def _json(text: str) -> object:
    try:
        value: object = json.loads(text, object_pairs_hook=_pairs, parse_constant=_constant)
    except json.JSONDecodeError as error:
        _refuse(f"not JSON: {error.msg} (column {error.colno})", error.lineno)
    except RecursionError:
        _too_deep()
    except ValueError as error:  # a number of thousands of digits
        _refuse(f"not JSON: {error}")
    return value


def _pairs(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        _refuse(f"the key {twice[:80]!r} is given twice")
    return found


def _constant(name: str) -> NoReturn:
    _refuse(f"{name} is no JSON number")


def _too_deep(line: int | None = None) -> NoReturn:
    _refuse(f"nested deeper than {MAX_DEPTH} levels", line)


class _Yaml:
    """Builds values from the parser's events, so that nothing is built before it is checked."""

    def __init__(self, text: str) -> None:
        self._events: Iterator[yaml.Event] = self._parse(text)
        self._anchors: dict[str, tuple[object, int]] = {}  # value, and how many nodes it has
        self._aliases = 0
        self._nodes = 0

    def document(self) -> object:
        """The value of the only document."""
        value: object = None
        documents = 0
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    _refuse("a second document begins; give one manifest", _line(event))
                value = self._value(next(self._events), 0)
        return value

    def _parse(self, text: str) -> Iterator[yaml.Event]:
        try:
            yield from yaml.parse(text, Loader=LOADER)
        except yaml.reader.ReaderError as error:
            _refuse(f"the character {error.character!r} is not allowed ({error.reason})")
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            _refuse(_words(error, text), mark.line + 1 if mark else None)
        except (yaml.YAMLError, UnicodeEncodeError) as error:
            _refuse(f"not YAML: {error}")

    def _value(self, event: yaml.Event, depth: int) -> object:
        if depth > MAX_DEPTH:
            _too_deep(_line(event))
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        before = self._nodes
        self._grow(1, event)
        if not isinstance(event, yaml.NodeEvent):  # pragma: no cover: the parser's grammar
            _refuse("not YAML", _line(event))
        value = self._node(event, depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = (value, self._nodes - before)
        return value

    def _node(self, event: yaml.Event, depth: int) -> object:
        tag: str | None = getattr(event, "tag", None)
        if tag not in (None, "!") and tag not in _KNOWN_TAGS:
            _refuse(f"the tag {tag!r} is not allowed; write plain values", _line(event))
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(event, depth)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(depth)
        assert isinstance(event, yaml.ScalarEvent)
        quoted = bool(event.style) or tag is not None
        return event.value if quoted else _scalar(event.value, _line(event))

    def _mapping(self, start: yaml.Event, depth: int) -> dict[str, object]:
        found: dict[str, object] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = _key(event)
            if key in found:
                _refuse(f"the key {key[:80]!r} is given twice", _line(event))
            self._grow(1, start)
            found[key] = self._value(next(self._events), depth + 1)
        return found

    def _sequence(self, depth: int) -> list[object]:
        found: list[object] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            found.append(self._value(event, depth + 1))
        return found

    def _alias(self, event: yaml.AliasEvent) -> object:
        self._aliases += 1
        if self._aliases > MAX_ALIASES:
            _refuse(f"more than {MAX_ALIASES} aliases (*name)", _line(event))
        if event.anchor not in self._anchors:
            _refuse(f"the alias *{event.anchor} names nothing above it", _line(event))
        value, nodes = self._anchors[event.anchor]
        self._grow(nodes, event)
        return value

    def _grow(self, nodes: int, event: yaml.Event) -> None:
        self._nodes += nodes
        if self._nodes > MAX_VALUES:
            _refuse(f"more than {MAX_VALUES} values (aliases expanded)", _line(event))


def _key(event: yaml.Event) -> str:
    if not isinstance(event, yaml.ScalarEvent) or event.tag not in (None, "!", *_KNOWN_TAGS):
        _refuse("a key is a plain word", _line(event))
    if event.value == "<<" and not event.style:
        _refuse("merge keys (<<) are not allowed; repeat the fields", _line(event))
    return event.value


def _scalar(text: str, line: int) -> object:
    if _NULL.fullmatch(text):
        return None
    if _TRUE.fullmatch(text) or _FALSE.fullmatch(text):
        return text[0] in "tT"
    if _NOT_FINITE.fullmatch(text):
        _refuse(f"{text} is no finite number", line)
    if len(text) < 400 and _INT.fullmatch(text):
        return int(text, 0) if text[:2] in ("0x", "0o") else int(text)
    return float(text) if _FLOAT.fullmatch(text) else text


def _line(event: yaml.Event) -> int:
    return int(event.start_mark.line) + 1 if event.start_mark else 0


def _words(error: yaml.MarkedYAMLError, text: str) -> str:
    """The parser's words; for a tab, which people can't see, ours."""
    mark = error.problem_mark
    lines = text.splitlines()
    line = lines[mark.line] if mark and mark.line < len(lines) else ""
    if "\t" in line[: len(line) - len(line.lstrip())] or "'\\t'" in str(error.problem):
        return "a tab indents this line; YAML wants spaces"
    words = ", ".join(str(part) for part in (error.context, error.problem) if part)
    return f"not YAML: {words}"
