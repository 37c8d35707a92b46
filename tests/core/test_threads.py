"""How many threads of OpenMP each thread of Python uses."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
import torch

from dpa4_core.threads import one_thread, stay_on_one_thread


@pytest.fixture(autouse=True)
def _two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def in_a_new_thread(work: Callable[[], object]) -> int:
    """The number of threads that a thread which began with ``work`` has after it."""
    found: list[int] = []

    def run() -> None:
        work()
        found.append(torch.get_num_threads())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return found[0]


def test_a_thread_that_begins_while_another_keeps_to_one_has_all_of_them() -> None:
    def within() -> None:
        with one_thread():
            assert torch.get_num_threads() == 1

    with one_thread():
        assert torch.get_num_threads() == 1
        assert in_a_new_thread(lambda: None) == 2
        assert in_a_new_thread(within) == 2
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
    assert in_a_new_thread(lambda: None) == 2


def test_a_thread_that_stays_on_one_leaves_the_others_theirs() -> None:
    assert in_a_new_thread(stay_on_one_thread) == 1
    assert torch.get_num_threads() == 2 and in_a_new_thread(lambda: None) == 2
