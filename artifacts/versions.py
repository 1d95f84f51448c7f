"""Which versions of packages are installed here."""

import platform
from collections.abc import Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, version


@cache  # it reads files of the installation
def installed_version(package: str) -> str | None:
    """Return the version of an installed package, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the versions of Python and of those packages that are installed."""
    found = {package: installed_version(package) for package in packages}
    return {"python": platform.python_version(), **{name: number for name, number in found.items() if number}}
