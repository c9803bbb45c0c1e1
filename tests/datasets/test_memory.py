"""The memory pool that Arrow takes from while tables stream by."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pyarrow as pa
import pytest

from curate.data.stores import memory_for_streams

HAS_JEMALLOC = "jemalloc" in pa.supported_memory_backends()


def pool() -> str:
    return str(pa.default_memory_pool().backend_name)


@pytest.fixture(autouse=True)
def system_memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("ARROW_DEFAULT_MEMORY_POOL", raising=False)
    before = pa.default_memory_pool()
    pa.set_memory_pool(pa.system_memory_pool())
    yield
    pa.set_memory_pool(before)


@pytest.mark.skipif(not HAS_JEMALLOC, reason="this pyarrow has no jemalloc")
def test_a_stream_takes_another_pool_and_puts_back_the_one_before() -> None:
    with memory_for_streams():
        assert pool() == "jemalloc"
    assert pool() == "system"
    with pytest.raises(ZeroDivisionError), memory_for_streams():
        raise ZeroDivisionError
    assert pool() == "system"


def test_a_pool_that_was_asked_for_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARROW_DEFAULT_MEMORY_POOL", "system")
    with memory_for_streams():
        assert pool() == "system"


def test_the_last_of_several_streams_puts_back_what_the_first_found() -> None:
    first_ends, second_began = threading.Event(), threading.Event()

    def second() -> None:
        with memory_for_streams():
            second_began.set()
            first_ends.wait(10)

    thread = threading.Thread(target=second)
    with memory_for_streams():
        thread.start()
        assert second_began.wait(10)
    first_ends.set()
    thread.join()
    assert pool() == "system"
