"""Items come in order while a thread makes the next ones."""

from collections.abc import Iterator

import pytest

from sentinode.ahead import read_ahead
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
