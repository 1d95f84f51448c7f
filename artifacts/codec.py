"""Typed dataclasses to and from plain values (None, bool, int, float, str, list, dict), strictly.

A wrong type, a missing field or an unknown field is a BundleError that names the field. Types are exact: a bool
is not an int, an int not a float, a tuple not a list. Nothing is ever looked up by a name from the data.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeAliasType, get_args, get_origin, get_type_hints

from mochi_aot.artifacts.errors import BundleError

# Levels of a recursive type such as Attr; every other type has the depth that its declaration has.
MAX_DEPTH = 16
INT_MIN, INT_MAX = -(1 << 63), (1 << 63) - 1

type Convert = Callable[[Any, int], Any]


def to_plain(kind: type, value: object, where: str) -> dict[str, Any]:
    """Return plain values for an instance of the dataclass `kind`, dicts in key order.

    Raise BundleError, naming a wrong field.
    """
    result: dict[str, Any] = _run(_dataclass(kind).encode, value, where)
    return result


def from_plain[T](kind: type[T], value: object, where: str) -> T:
    """Return the instance of the dataclass `kind` that plain values describe.

    Raise BundleError, naming a wrong field.
    """
    key: Any = kind  # type checkers do not take a type[T] for hashable
    result: T = _run(_dataclass(key).decode, value, where)
    return result


class _MismatchError(Exception):
    """Collects the path to the fault from the inside out, so that good data pays nothing for it."""

    def __init__(self, expected: str, seen: str) -> None:
        super().__init__(expected, seen)
        self.expected, self.seen, self.path = expected, seen, ""

    def inside(self, step: str) -> "_MismatchError":
        self.path = step + self.path
        return self


def _run(convert: Convert, value: object, where: str) -> Any:
    try:
        return convert(value, 0)
    except _MismatchError as error:
        field = error.path.lstrip(".") or "the top level"
        raise BundleError(f"{where}: {field}: expected {error.expected}, seen {error.seen}") from None


@dataclass(frozen=True)
class _Converter:
    """Both directions for one type, and the Python type of a value on either side, by which a union chooses."""

    native: type
    plain: type
    encode: Convert
    decode: Convert


@cache
def _converter(kind: Any) -> _Converter:
    """Return the rule for a type that has one Python type of its own."""
    if kind in (NoneType, None):
        return _exact(NoneType)
    if kind is int:
        return _Converter(int, int, _check_int, _check_int)
    if kind in (bool, float, str):
        return _exact(kind)
    if is_dataclass(kind) and isinstance(kind, type):
        return _dataclass(kind)
    if get_origin(kind) is list:
        return _list(get_args(kind)[0])
    if get_origin(kind) is dict and get_args(kind)[0] is str:
        return _dict(get_args(kind)[1])
    raise TypeError(f"the codec has no rule for {kind!r}")


def _resolve(kind: Any) -> tuple[Convert, Convert]:
    """Return (encode, decode) of any type; unions and aliases, which have no single Python type, stop here."""
    if isinstance(kind, TypeAliasType):
        return _alias(kind)
    if isinstance(kind, UnionType):
        return _union(kind)
    converter = _converter(kind)
    return converter.encode, converter.decode


def _exact(kind: type) -> _Converter:
    def check(value: Any, depth: int) -> Any:
        if type(value) is not kind:
            raise _MismatchError(_name(kind), _describe(value))
        return value

    return _Converter(kind, kind, check, check)


def _check_int(value: Any, depth: int) -> Any:
    if type(value) is not int:
        raise _MismatchError("int", _describe(value))
    if not INT_MIN <= value <= INT_MAX:
        raise _MismatchError("an int of 64 bits", _describe(value))
    return value


def _list(item: Any) -> _Converter:
    def convert_with(convert: Convert) -> Convert:
        def run(value: Any, depth: int) -> Any:
            if type(value) is not list:
                raise _MismatchError("list", _describe(value))
            result: list[Any] = []
            try:
                for element in value:
                    result.append(convert(element, depth))
            except _MismatchError as error:
                raise error.inside(f"[{len(result)}]") from None
            return result

        return run

    encode, decode = _resolve(item)
    return _Converter(list, list, convert_with(encode), convert_with(decode))


def _dict(item: Any) -> _Converter:
    encode, decode = _resolve(item)

    def run_encode(value: Any, depth: int) -> Any:
        plain = run(value, depth, encode)
        return {key: plain[key] for key in sorted(plain)}

    def run(value: Any, depth: int, convert: Convert) -> dict[str, Any]:
        if type(value) is not dict:
            raise _MismatchError("map", _describe(value))
        result = {}
        for key, element in value.items():
            if type(key) is not str:
                raise _MismatchError("str keys", _describe(key))
            try:
                result[key] = convert(element, depth)
            except _MismatchError as error:
                raise error.inside(f"[{key!r}]") from None
        return result

    return _Converter(dict, dict, run_encode, lambda value, depth: run(value, depth, decode))


@cache
def _dataclass(kind: Any) -> _Converter:
    hints = get_type_hints(kind)
    members = [(field.name, *_resolve(hints[field.name])) for field in fields(kind)]
    names = {name for name, _, _ in members}

    def encode(value: Any, depth: int) -> Any:
        if type(value) is not kind:
            raise _MismatchError(kind.__name__, _describe(value))
        result = {}
        for name, convert, _ in members:
            try:
                result[name] = convert(getattr(value, name), depth)
            except _MismatchError as error:
                raise error.inside(f".{name}") from None
        return result

    def decode(value: Any, depth: int) -> Any:
        if type(value) is not dict:
            raise _MismatchError(f"a map of the fields of {kind.__name__}", _describe(value))
        if value.keys() != names:
            raise _field_names(kind, names, value)
        result = {}
        for name, _, convert in members:
            try:
                result[name] = convert(value[name], depth)
            except _MismatchError as error:
                raise error.inside(f".{name}") from None
        return kind(**result)

    return _Converter(kind, dict, encode, decode)


def _field_names(kind: Any, names: set[str], value: dict[Any, Any]) -> _MismatchError:
    missing = sorted(names - value.keys())
    if missing:
        return _MismatchError(f"a field {missing[0]!r} of {kind.__name__}", "none")
    unknown = sorted(str(key) for key in value.keys() - names)
    return _MismatchError(f"only the fields of {kind.__name__}", f"an unknown field {_describe(unknown[0])}")


def _union(kind: UnionType) -> tuple[Convert, Convert]:
    converters = [_converter(member) for member in get_args(kind)]
    encoders = {converter.native: converter.encode for converter in converters}
    decoders = {converter.plain: converter.decode for converter in converters}
    if len(decoders) != len(converters):
        raise TypeError(f"the members of {kind} look alike as plain values")
    expected = " or ".join(_name(converter.plain) for converter in converters)

    def choose(table: dict[type, Convert]) -> Convert:
        def run(value: Any, depth: int) -> Any:
            convert = table.get(type(value))
            if convert is None:
                raise _MismatchError(expected, _describe(value))
            return convert(value, depth)

        return run

    return choose(encoders), choose(decoders)


def _alias(kind: TypeAliasType) -> tuple[Convert, Convert]:
    """Resolve an alias at its first use, since it may name itself; its depth is counted."""

    def enter(direction: int) -> Convert:
        def run(value: Any, depth: int) -> Any:
            if depth == MAX_DEPTH:
                raise _MismatchError(f"at most {MAX_DEPTH} levels", "more")
            return _target(kind)[direction](value, depth + 1)

        return run

    return enter(0), enter(1)


@cache
def _target(kind: TypeAliasType) -> tuple[Convert, Convert]:
    return _resolve(kind.__value__)


def _name(kind: type) -> str:
    return {NoneType: "nothing", dict: "map"}.get(kind, kind.__name__)


def _describe(value: object) -> str:
    """Return a short text for an error line, whatever the value is."""
    if value is None:
        return "nothing"
    if isinstance(value, (bool, int, float, str)):
        text = repr(value) if not isinstance(value, int) or INT_MIN <= value <= INT_MAX else "a larger number"
        return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"
    return _name(type(value))
