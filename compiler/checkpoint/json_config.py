"""A config.json, read with the same care as a tensor: every field has a type and an error names file and field."""

import json
from pathlib import Path
from typing import Any

from mochi_aot.artifacts.regular_file import read_regular
from mochi_aot.compiler.checkpoint.errors import CheckpointError
from mochi_aot.compiler.checkpoint.file_kind import check_not_pointer

MAX_JSON_BYTES = 8 << 20  # an index of the published weights, the largest of them, has 0.2 MB


class JsonConfig:
    """The fields of one config.json. Every method raises CheckpointError where a field is absent or does not fit."""

    def __init__(self, path: Path, fields: dict[str, Any]) -> None:
        self._path = path
        self._fields = fields

    @classmethod
    def read(cls, path: Path) -> "JsonConfig":
        """Parse `path`, which must hold a JSON object."""
        return cls(path, read_json(path))

    def expect(self, field: str, *values: object) -> None:
        """Check a field that must have one of `values`; an absent field passes, as it then has its usual value."""
        value = self._fields.get(field, values[0])
        if value not in values:
            wanted = " or ".join(json.dumps(value) for value in values)
            raise CheckpointError(f"{self._path}: {field} is {json.dumps(value)}, Mochi has {wanted}")

    def integer(self, field: str, default: int | None = None) -> int:
        """Return a positive integer."""
        value = self._get(field, default)
        if not _is_integer(value):
            raise self._mistyped(field, value, "a positive integer")
        return int(value)

    def number(self, field: str, default: float | None = None) -> float:
        """Return a number."""
        value = self._get(field, default)
        if not _is_number(value):
            raise self._mistyped(field, value, "a number")
        return float(value)

    def integers(self, field: str, default: tuple[int, ...]) -> tuple[int, ...]:
        """Return a list of positive integers."""
        value = self._get(field, default)
        if not isinstance(value, list | tuple) or not all(_is_integer(item) for item in value):
            raise self._mistyped(field, value, "a list of positive integers")
        return tuple(value)

    def numbers(self, field: str, default: tuple[float, ...]) -> tuple[float, ...]:
        """Return a list of numbers."""
        value = self._get(field, default)
        if not isinstance(value, list | tuple) or not all(_is_number(item) for item in value):
            raise self._mistyped(field, value, "a list of numbers")
        return tuple(float(item) for item in value)

    def _get(self, field: str, default: object) -> Any:
        value = self._fields.get(field, default)
        if value is None:
            raise CheckpointError(f"{self._path} has no {field}: it must say this size of the model")
        return value

    def _mistyped(self, field: str, value: object, wanted: str) -> CheckpointError:
        return CheckpointError(f"{self._path}: {field} is {json.dumps(value)}, expected {wanted}")


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in file `path`. Raise CheckpointError if it cannot be read or is something else."""
    try:
        data = read_regular(path, MAX_JSON_BYTES)
        check_not_pointer(path, data)
        value = json.loads(data)
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing: the folder is incomplete") from None
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} holds {type(value).__name__}, expected a JSON object")
    return value


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
