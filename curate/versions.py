"""Which versions of what made a number."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from curate import __version__


def versions(*packages: str) -> dict[str, str]:
    """The versions of curate and of the named packages that are installed."""
    found = {"curate": __version__}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
