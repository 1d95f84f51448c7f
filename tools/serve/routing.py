"""Paths beside the functions that answer them."""

from collections.abc import Callable

from starlette.routing import Route


def at[F: Callable[..., object]](method: str, path: str) -> Callable[[F], F]:
    """Return a decorator that says which requests a method of a class of handlers answers."""

    def placed(function: F) -> F:
        function.place = method, path  # type: ignore[attr-defined]
        return function

    return placed


def routes_of(handlers: object) -> list[Route]:
    """Return the routes of an object whose class has methods with `at`, in the order in which they are defined."""
    placed = [(name, function.place) for name, function in vars(type(handlers)).items() if hasattr(function, "place")]
    return [Route(path, getattr(handlers, name), methods=[method]) for name, (method, path) in placed]
