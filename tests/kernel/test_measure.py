"""Percentiles from buckets."""

from itertools import pairwise

import pytest

from holdfast.kernel.measure import SECONDS_BOUNDS, Histogram, quantile_of


def test_a_quantile_is_interpolated_inside_its_bucket() -> None:
    histogram = Histogram((1.0, 2.0, 4.0))
    for value in (0.5, 0.5, 1.5, 1.5, 3.0, 3.0, 3.0, 3.0):
        histogram.observe(value)
    assert [histogram.quantile(q) for q in (0.0, 0.125, 0.25, 0.375, 0.5, 0.75, 1.0)] == [0, 0.5, 1, 1.5, 2, 3, 4]


def test_empty_buckets_between_are_passed_over() -> None:
    assert quantile_of((1.0, 2.0, 4.0), (0, 0, 4, 0), 0.5) == 3.0
    assert quantile_of((1.0, 2.0, 4.0), (1, 0, 1, 0), 0.5) == 1.0


def test_nothing_observed_is_zero_and_above_the_last_bound_is_that_bound() -> None:
    histogram = Histogram((1.0, 2.0))
    assert histogram.quantile(0.99) == 0.0
    histogram.observe(1000.0)
    assert [histogram.quantile(q) for q in (0.0, 0.5, 1.0)] == [2.0, 2.0, 2.0]


@pytest.mark.parametrize("q", [0.5, 0.95, 0.99])
def test_the_estimate_never_leaves_the_bucket_of_the_true_value(q: float) -> None:
    values = [0.003 * 1.01**step for step in range(1000)]
    histogram = Histogram()
    for value in values:
        histogram.observe(value)
    true = values[int(q * len(values)) - 1]
    lower, upper = next(pair for pair in pairwise((0.0, *SECONDS_BOUNDS)) if pair[0] < true <= pair[1])
    assert lower <= histogram.quantile(q) <= upper
