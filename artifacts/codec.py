"""Typed dataclasses to and from plain values (None, bool, int, float, str, list, dict), strictly.

A wrong type, a missing field or an unknown field is a BundleError that names the field. Types are exact: a bool
is not an int, an int not a float, a tuple not a list. Text is of one line, without what terminals obey. Nothing is ever
looked up by a name from the data. The check of each type is put together once.
"""

import re
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeAliasType, get_args, get_origin, get_type_hints

from mochi_aot.artifacts.errors import BundleError

# Levels of a recursive type such as Attr; every other type has the depth that its declaration has.
MAX_DEPTH = 16
INT_MIN, INT_MAX = -(1 << 63), (1 << 63) - 1
# Control characters, ends of lines and paragraphs, what turns the direction of text, and halves of surrogate pairs.
_NOT_TEXT = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

_LEAVES = {NoneType, bool, int, float, str}

type Decode = Callable[[Any], Any]


def to_plain(kind: type, value: object, where: str) -> dict[str, Any]:
    """Return plain values for an instance of the dataclass `kind`, dicts in key order.

    Raise BundleError, naming a wrong field.
    """
    _decoder(kind, 0)  # a type that the format does not hold is the programmer's error, whatever the value is
    if type(value) is not kind:
        raise BundleError(f"{where}: the top level: expected {kind.__name__}, seen {_describe(value)}")
    plain: dict[str, Any] = _unchecked(value)
    from_plain(kind, plain, where)
    return plain


def from_plain[T](kind: type[T], value: object, where: str) -> T:
    """Return the instance of the dataclass `kind` that plain values describe.

    Raise BundleError, naming a wrong field.
    """
    key: Any = kind  # type checkers do not take a type[T] for hashable
    try:
        result: T = _decoder(key, 0)(value)
    except _MismatchError as error:
        field = error.path.lstrip(".") or "the top level"
        raise BundleError(f"{where}: {field}: expected {error.expected}, seen {error.seen}") from None
    return result


class _MismatchError(Exception):
    """Collects the path to the fault from the inside out, so that good data pays nothing for it."""

    def __init__(self, expected: str, value: object) -> None:
        self.expected, self.seen, self.path = expected, _describe(value), ""

    def inside(self, step: str) -> "_MismatchError":
        self.path = step + self.path
        return self


def _unchecked(value: Any) -> Any:
    kind = type(value)
    if kind in _LEAVES:
        return value
    if kind is list:
        return [_unchecked(item) for item in value]
    if kind is dict:
        return {key: _unchecked(value[key]) for key in sorted(value, key=str)}
    return {name: _unchecked(item) for name, item in vars(value).items()} if is_dataclass(kind) else value


@cache
def _decoder(kind: Any, depth: int) -> Decode:
    """Return the check of a type `depth` levels inside of recursive ones; what it returns is of that type."""
    if isinstance(kind, TypeAliasType):
        return _alias(kind, depth)
    if isinstance(kind, UnionType):
        return _union(kind, depth)
    if kind is int:
        return _int
    if kind is str:
        return _str
    if kind in (bool, float, NoneType):
        return _exact(kind)
    if is_dataclass(kind) and isinstance(kind, type):
        return _dataclass(kind, depth)
    if get_origin(kind) is list:
        item = get_args(kind)[0]
        return _ints if item is int else _list_of(_decoder(item, depth))
    if get_origin(kind) is dict and get_args(kind)[0] is str:
        return _dict(get_args(kind)[1], depth)
    raise TypeError(f"the codec has no rule for {kind!r}")


def _exact(kind: type) -> Decode:
    def decode(value: Any) -> Any:
        if type(value) is not kind:
            raise _MismatchError(_name(kind), value)
        return value

    return decode


def _int(value: Any) -> int:
    if type(value) is not int:
        raise _MismatchError("int", value)
    if not INT_MIN <= value <= INT_MAX:
        raise _MismatchError("an int of 64 bits", value)
    return value


def _str(value: Any) -> str:
    if type(value) is not str:
        raise _MismatchError("str", value)
    if not value.isprintable() and _NOT_TEXT.search(value):  # some scripts need characters that Python escapes
        raise _MismatchError("a line of text", value)
    return value


def _ints(value: Any) -> list[int]:
    """Check the list that most lists of a program are, and share it."""
    if type(value) is not list:
        raise _MismatchError("list", value)
    for element in value:
        if type(element) is not int or not INT_MIN <= element <= INT_MAX:
            return list(_list_of(_int)(value))  # to say where
    return value


def _list_of(decode_item: Decode) -> Decode:
    def decode(value: Any) -> list[Any]:
        if type(value) is not list:
            raise _MismatchError("list", value)
        result: list[Any] = []
        try:
            for element in value:
                result.append(decode_item(element))
        except _MismatchError as error:
            raise error.inside(f"[{len(result)}]") from None
        return result

    return decode


def _dict(item: Any, depth: int) -> Decode:
    decode_item = _decoder(item, depth)

    def decode(value: Any) -> dict[str, Any]:
        if type(value) is not dict:
            raise _MismatchError("map", value)
        result, key = {}, None
        for key, element in value.items():
            if type(key) is not str:
                raise _MismatchError("str keys", key)
            try:
                result[_str(key)] = decode_item(element)
            except _MismatchError as error:
                raise error.inside(f"[{key!r}]") from None
        return result

    return decode


def _dataclass(kind: Any, depth: int) -> Decode:
    hints = get_type_hints(kind)
    decoders = {field.name: _decoder(hints[field.name], depth) for field in fields(kind)}
    members, names = tuple(decoders.items()), decoders.keys()

    def decode(value: Any) -> Any:
        if type(value) is not dict:
            raise _MismatchError(f"a map of the fields of {kind.__name__}", value)
        if value.keys() != names:
            raise _field_names(kind, set(names), value)
        instance, name = object.__new__(kind), ""
        result = vars(instance)  # a frozen dataclass has its fields set so too, but one call at a time
        try:
            for name, decode_field in members:
                result[name] = decode_field(value[name])
        except _MismatchError as error:
            raise error.inside(f".{name}") from None
        return instance

    return decode


def _field_names(kind: Any, names: set[str], value: dict[Any, Any]) -> _MismatchError:
    missing = sorted(names - value.keys())
    if missing:
        error = _MismatchError(f"a field {missing[0]!r} of {kind.__name__}", None)
        error.seen = "none"
        return error
    error = _MismatchError(f"only the fields of {kind.__name__}", min(str(key) for key in value.keys() - names))
    error.seen = f"an unknown field {error.seen}"
    return error


def _union(kind: UnionType, depth: int) -> Decode:
    members = get_args(kind)
    table = {_plain_type(member): _decoder(member, depth) for member in members}
    if len(table) != len(members):
        raise TypeError(f"the members of {kind} look alike as plain values")
    expected = " or ".join(map(_name, table))

    def decode(value: Any) -> Any:
        decode_member = table.get(type(value))
        if decode_member is None:
            raise _MismatchError(expected, value)
        return decode_member(value)

    return decode


def _alias(kind: TypeAliasType, depth: int) -> Decode:
    """Count the levels of an alias, which may name itself."""
    if depth < MAX_DEPTH:
        return _decoder(kind.__value__, depth + 1)

    def refuse(value: Any) -> Any:
        error = _MismatchError(f"at most {MAX_DEPTH} levels", None)
        error.seen = "more"
        raise error

    return refuse


def _plain_type(kind: Any) -> type:
    """Return the Python type of the plain values of a type, by which a union chooses."""
    plain: type = dict if is_dataclass(kind) else get_origin(kind) or kind
    return plain


def _name(kind: type) -> str:
    return {NoneType: "nothing", dict: "map"}.get(kind, kind.__name__)


def _describe(value: object) -> str:
    """Return a short text for an error line, whatever the value is."""
    if value is None:
        return "nothing"
    if isinstance(value, str):
        value = value[:80]
    if isinstance(value, (bool, int, float, str)):
        text = repr(value) if not isinstance(value, int) or INT_MIN <= value <= INT_MAX else "a larger number"
        return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"
    return _name(type(value))
