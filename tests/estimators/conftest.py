"""Estimators that look things up have the same small wiki, and a cache of their own."""

from tests.wikipedia.conftest import cache_folder, serve, world

__all__ = ["cache_folder", "serve", "world"]
