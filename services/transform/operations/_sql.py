"""SQL conditions over Arrow batches: an allow-list of sqlglot's nodes, compiled to pyarrow.compute.

Dialect: DuckDB's spelling, SQL's three-valued logic. Column names are exact. Nothing but columns,
constants, operators and the functions listed here exists, so there is nothing to escape into.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from libs.common.errors import PermanentError
from services.transform.operations import column, invalid
from services.transform.operations.cast import converted, type_called

Value: TypeAlias = pa.Array | pa.Scalar
Evaluate = Callable[[pa.RecordBatch], Value]
Function = Callable[..., Value]
LONGEST = 16_384  # characters of an expression
BROKEN = (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError)


def condition(text: str, schema: pa.Schema) -> Evaluate:
    """The expression as a function to a boolean (array or scalar, NULL where unknown).

    Raises PermanentError: `invalid_expression`, `column_missing`, `type_mismatch`.
    """
    try:
        evaluate = _Compiler(schema).compile(parse(text))
        kind = evaluate(_empty(schema)).type
    except RecursionError as error:
        raise _refuse(text, "nested too deeply") from error
    except BROKEN as error:
        raise _mismatch(text, error) from error
    if not (pa.types.is_boolean(kind) or pa.types.is_null(kind)):
        raise PermanentError(
            f"filter: {text!r} gives {kind}, not true or false; compare it with something",
            code="type_mismatch",
            path="spec.transform",
        )
    return evaluate


def parse(text: str) -> exp.Expression:
    """One expression; statements, several expressions and broken syntax are refused."""
    if len(text) > LONGEST:
        raise _refuse(text[:40] + "…", f"longer than {LONGEST} characters")
    try:
        found = [e for e in sqlglot.parse(text, read="duckdb") if e is not None]
    except SqlglotError as error:
        raise _refuse(text, str(error).splitlines()[0]) from error
    if len(found) != 1 or not isinstance(found[0], exp.Expression):
        raise _refuse(text, "exactly one expression is wanted")
    return found[0]


def _empty(schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array([], f.type) for f in schema], schema=schema)


def _refuse(text: str, why: str) -> PermanentError:
    return PermanentError(
        f"filter: {text!r}: {why}; give a condition such as price > 10 AND name LIKE 'a%'",
        code="invalid_expression",
        path="spec.transform",
    )


def _mismatch(text: str, error: Exception) -> PermanentError:
    return PermanentError(
        f"filter: {text!r}: types don't fit ({str(error).splitlines()[0]}); cast the column first",
        code="type_mismatch",
        path="spec.transform",
    )


class _Compiler:
    """Turns nodes into functions over batches of one schema."""

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema

    def compile(self, node: exp.Expression) -> Evaluate:
        given = {k for k, v in node.args.items() if v not in (None, False, [])}
        special = self._special(node)
        if special is not None:
            return special
        known = FUNCTIONS.get(type(node))
        if known is None or not given <= {*known[1], "negate", "safe", "typed"}:
            raise _refuse(node.sql("duckdb"), f"{type(node).__name__} is not supported here")
        function, names = known
        inner = [self.compile(node.args[n]) for n in names if n in given]
        if type(node) in COMPARISONS:
            inner = self._same_kind(inner)
        return _negated(node, lambda batch: function(*(e(batch) for e in inner)))

    def _special(self, node: exp.Expression) -> Evaluate | None:
        match node:
            case exp.Paren():
                return self.compile(node.this)
            case exp.Column():
                return self._column(node)
            case exp.Literal() | exp.Boolean() | exp.Null():
                return _constant(_literal(node))
            case exp.Cast():
                return self._cast(node)
            case exp.In() if node.args.get("query") is None and node.expressions:
                return self._in(node)
            case exp.Like() | exp.ILike() | exp.RegexpLike():
                return self._matching(node)
            case exp.Is():
                return self._is(node)
            case exp.Coalesce():
                return self._coalesce(node)
            case exp.Case() if node.this is None:
                return self._case(node)
        return None

    def _column(self, node: exp.Column) -> Evaluate:
        if {k for k, v in node.args.items() if v} != {"this"}:
            raise _refuse(node.sql("duckdb"), "name columns without a table")
        if not isinstance(node.this, exp.Identifier):
            raise _refuse(node.sql("duckdb"), "not a column")
        name = column("filter", self._schema, node.this.name).name
        return lambda batch: batch.column(name)

    def _cast(self, node: exp.Cast) -> Evaluate:
        named = node.args["to"].sql("duckdb")
        kind = type_called({"TIMESTAMPNTZ": "timestamp", "REAL": "float"}.get(named, named))
        inner = self.compile(node.this)
        return lambda batch: converted(inner(batch), kind)

    def _in(self, node: exp.In) -> Evaluate:
        if not all(isinstance(e, exp.Literal | exp.Null | exp.Neg) for e in node.expressions):
            raise _refuse(node.sql("duckdb"), "IN takes constants")
        inner, empty = self.compile(node.this), _empty(self._schema)
        items = [self.compile(e)(empty) for e in node.expressions]
        kind = inner(empty).type
        values = pa.array([i.cast(kind) for i in items if i.is_valid], kind)
        return lambda batch: _is_in(inner(batch), values, any(not i.is_valid for i in items))

    def _matching(self, node: exp.Expression) -> Evaluate:
        pattern, inner = node.args["expression"], self.compile(node.this)
        if not (isinstance(pattern, exp.Literal) and pattern.is_string):
            raise _refuse(node.sql("duckdb"), "give the pattern as a text constant")
        if node.args.get("flag") is not None:
            raise _refuse(node.sql("duckdb"), "flags are not supported; write (?i) in the pattern")
        text = pattern.name
        if isinstance(node, exp.RegexpLike):
            return lambda batch: pc.match_substring_regex(inner(batch), text)
        fold = isinstance(node, exp.ILike)
        return _negated(node, lambda batch: pc.match_like(inner(batch), text, ignore_case=fold))

    def _is(self, node: exp.Is) -> Evaluate:
        inner, other = self.compile(node.this), node.args["expression"]
        if isinstance(other, exp.Null):
            return lambda batch: pc.is_null(inner(batch))
        if isinstance(other, exp.Boolean):
            wanted = bool(other.this)
            return lambda batch: pc.fill_null(pc.equal(inner(batch), wanted), False)
        raise _refuse(node.sql("duckdb"), "IS takes NULL, TRUE or FALSE")

    def _coalesce(self, node: exp.Coalesce) -> Evaluate:
        inner = [self.compile(e) for e in (node.this, *node.expressions)]
        return lambda batch: pc.coalesce(*(e(batch) for e in inner))

    def _case(self, node: exp.Case) -> Evaluate:
        default = node.args.get("default")
        rest = _constant(pa.scalar(None)) if default is None else self.compile(default)
        for branch in reversed(node.args["ifs"]):
            rest = _choose(self.compile(branch.this), self.compile(branch.args["true"]), rest)
        return rest

    def _same_kind(self, inner: list[Evaluate]) -> list[Evaluate]:
        """Text constants beside dates and times become dates and times."""
        empty = _empty(self._schema)
        values = [e(empty) for e in inner]
        kind = next((v.type for v in values if pa.types.is_temporal(v.type)), None)
        if kind is None:
            return inner
        text = [isinstance(v, pa.Scalar) and pa.types.is_string(v.type) for v in values]
        return [
            _constant(v.cast(kind)) if t else e for e, v, t in zip(inner, values, text, strict=True)
        ]


def _constant(value: pa.Scalar) -> Evaluate:
    return lambda _: value


def _literal(node: exp.Expression) -> pa.Scalar:
    if isinstance(node, exp.Null):
        return pa.scalar(None)
    if isinstance(node, exp.Boolean):
        return pa.scalar(bool(node.this))
    if node.args["is_string"]:
        return pa.scalar(str(node.this))
    text = str(node.this)
    try:
        return pa.scalar(int(text) if text.isdigit() else float(text))
    except (ValueError, OverflowError) as error:
        raise _refuse(text, "not a number of at most 64 bits") from error


def _negated(node: exp.Expression, evaluate: Evaluate) -> Evaluate:
    return (lambda batch: pc.invert(evaluate(batch))) if node.args.get("negate") else evaluate


def _choose(when: Evaluate, then: Evaluate, rest: Evaluate) -> Evaluate:
    return lambda b: pc.if_else(pc.fill_null(when(b), False), then(b), rest(b))


def _is_in(value: Value, values: pa.Array, unknown: bool) -> Value:
    found = pc.is_in(value, values)
    hidden = pc.or_(pc.is_null(value), pc.and_(pc.invert(found), pa.scalar(unknown)))
    return pc.if_else(hidden, pa.scalar(None, pa.bool_()), found)


def _divide(a: Value, b: Value) -> Value:
    """Real division as IEEE 754 has it: by zero gives infinity or NaN."""
    return pc.divide(pc.cast(a, pa.float64()), pc.cast(b, pa.float64()))


def _whole(a: Value, b: Value) -> Value:
    """Towards zero; by zero gives NULL."""
    return pc.divide(a, _not_zero(b))


def _modulo(a: Value, b: Value) -> Value:
    """Remainder with the sign of the dividend; by zero gives NULL."""
    return pc.subtract(a, pc.multiply(pc.trunc(_whole(a, b)).cast(a.type), b))


def _not_zero(value: Value) -> Value:
    return pc.if_else(pc.equal(value, 0), pa.scalar(None, value.type), value)


def _between(value: Value, low: Value, high: Value) -> Value:
    return pc.and_kleene(pc.greater_equal(value, low), pc.less_equal(value, high))


def _distinct(a: Value, b: Value) -> Value:
    both = pc.and_(pc.is_null(a), pc.is_null(b))
    return pc.invert(pc.or_(both, pc.fill_null(pc.equal(a, b), False)))


def _same(a: Value, b: Value) -> Value:
    return pc.invert(_distinct(a, b))


def _length(value: Value) -> Value:
    return pc.binary_length(value) if pa.types.is_binary(value.type) else pc.utf8_length(value)


def _round(value: Value, digits: Value | None = None) -> Value:
    places = 0 if digits is None else digits.as_py()
    return pc.round(value, ndigits=places, round_mode="half_towards_infinity")


def _trim(value: Value) -> Value:
    return pc.utf8_trim(value, characters=" ")


def _text(of: Callable[[Value, str], Value]) -> Function:
    """A function whose second argument is a text constant."""

    def call(value: Value, text: Value) -> Value:
        if not isinstance(text, pa.Scalar) or not isinstance(text.as_py(), str):
            raise invalid("filter", "the second argument has to be a text constant")
        return of(value, text.as_py())

    return call


TWO = ("this", "expression")
ONE = ("this",)
FUNCTIONS: dict[type[exp.Expression], tuple[Function, tuple[str, ...]]] = {
    exp.And: (pc.and_kleene, TWO), exp.Or: (pc.or_kleene, TWO), exp.Not: (pc.invert, ONE),
    exp.EQ: (pc.equal, TWO), exp.NEQ: (pc.not_equal, TWO),
    exp.GT: (pc.greater, TWO), exp.GTE: (pc.greater_equal, TWO),
    exp.LT: (pc.less, TWO), exp.LTE: (pc.less_equal, TWO),
    exp.NullSafeEQ: (_same, TWO), exp.NullSafeNEQ: (_distinct, TWO),
    exp.Between: (_between, ("this", "low", "high")),
    exp.Add: (pc.add_checked, TWO), exp.Sub: (pc.subtract_checked, TWO),
    exp.Mul: (pc.multiply_checked, TWO), exp.Neg: (pc.negate_checked, ONE),
    exp.Div: (_divide, TWO), exp.IntDiv: (_whole, TWO), exp.Mod: (_modulo, TWO),
    exp.Abs: (pc.abs_checked, ONE), exp.Floor: (pc.floor, ONE), exp.Ceil: (pc.ceil, ONE),
    exp.Round: (_round, ("this", "decimals")), exp.IsNan: (pc.is_nan, ONE),
    exp.Lower: (pc.utf8_lower, ONE), exp.Upper: (pc.utf8_upper, ONE), exp.Trim: (_trim, ONE),
    exp.Length: (_length, ONE),
    exp.Contains: (_text(pc.match_substring), TWO),
    exp.StartsWith: (_text(pc.starts_with), TWO), exp.EndsWith: (_text(pc.ends_with), TWO),
    exp.Year: (pc.year, ONE), exp.Month: (pc.month, ONE), exp.Day: (pc.day, ONE),
}  # fmt: skip
COMPARISONS: frozenset[type[exp.Expression]] = frozenset(
    (exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Between, exp.NullSafeEQ,
     exp.NullSafeNEQ)
)  # fmt: skip


def functions() -> Iterable[str]:
    """What conditions may call, for documentation."""
    return sorted(kind.__name__.lower() for kind in FUNCTIONS)
