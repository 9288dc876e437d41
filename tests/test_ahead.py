"""Items come in order while a thread makes the next ones."""

import time
from collections.abc import Iterator

import pytest

from sentinode.ahead import in_order, read_ahead
from sentinode.errors import DataError


def test_reading_ahead_keeps_the_order_and_raises_in_its_place() -> None:
    def items() -> Iterator[int]:
        yield from range(20)
        raise DataError("the twentieth is broken")

    seen = []
    with pytest.raises(DataError, match="twentieth"):
        for item in read_ahead(items()):
            seen.append(item)
    assert seen == list(range(20))


def test_a_reader_that_stops_early_stops_the_thread() -> None:
    made = []

    def items() -> Iterator[int]:
        for number in range(1000):
            made.append(number)
            yield number

    ahead = read_ahead(items(), depth=2)
    assert next(ahead) == 0
    ahead.close()  # type: ignore[attr-defined]
    assert len(made) < 10


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_results_come_in_the_order_of_their_items_however_long_each_takes(workers: int) -> None:
    def slow(number: int) -> int:
        time.sleep(0.002 * (number % 3))
        return number**2

    assert list(in_order(slow, range(30), workers)) == [(number, number**2) for number in range(30)]


@pytest.mark.parametrize("workers", [1, 3])
def test_an_error_of_the_function_is_raised_in_its_place(workers: int) -> None:
    def refuses_seven(number: int) -> int:
        if number == 7:
            raise DataError("seven is broken")
        return number

    seen = []
    with pytest.raises(DataError, match="seven"):
        for number, _ in in_order(refuses_seven, range(20), workers):
            seen.append(number)
    assert seen == list(range(7))


def test_no_more_items_are_taken_than_there_are_workers_to_compute_them() -> None:
    taken = []

    def items() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    results = in_order(lambda number: number, items(), 2)
    assert next(results) == (0, 0)
    assert len(taken) <= 3
    results.close()  # type: ignore[attr-defined]
