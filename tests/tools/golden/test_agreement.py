"""What counts as a departure: numbers by hand, at both sides of each limit."""

import math

import pytest
import torch

from mochi_aot.tools.golden.agreement import agreement

WAVE = torch.sin(torch.arange(1000.0))  # its mean is 0 and its root mean square 0.707
OTHER = torch.cos(torch.arange(1000.0))  # uncorrelated with it


def test_equal_numbers() -> None:
    found = agreement(WAVE, WAVE.clone())
    assert found.pcc == pytest.approx(1) and found.error == 0 and not found.departs


@pytest.mark.parametrize(("part", "departs"), [(0.03, False), (0.06, True)])
def test_noise_lowers_the_correlation(part: float, departs: bool) -> None:
    """pcc = 1 / sqrt(1 + part^2): 0.99955 and 0.9982."""
    found = agreement(WAVE + part * OTHER, WAVE)
    assert found.pcc == pytest.approx(1 / math.sqrt(1 + part**2), abs=1e-5)
    assert found.departs == departs


@pytest.mark.parametrize(("factor", "departs"), [(1.04, False), (1.06, True)])
def test_a_factor_is_an_error_that_no_correlation_shows(factor: float, departs: bool) -> None:
    found = agreement(WAVE * factor, WAVE)
    assert found.pcc == pytest.approx(1) and found.error == pytest.approx(factor - 1)
    assert found.departs == departs


def test_what_rounding_does_to_numbers_that_hardly_differ_is_no_departure() -> None:
    """Between 1 and 1.02 bfloat16 has two numbers, so that much of the correlation is lost."""
    near = 1 + 0.02 * WAVE.abs()
    found = agreement(near.bfloat16().float(), near)
    assert found.pcc < 0.98 and found.error < 0.004 and not found.departs
    assert agreement(near * 1.01 + 0.01 * OTHER, near).departs


def test_whole_numbers_are_equal_or_wrong() -> None:
    ids = torch.arange(1000)
    assert not agreement(ids, ids.clone()).departs
    changed = ids.clone()
    changed[7] += 1
    found = agreement(changed, ids)
    assert found.pcc > 0.9999 and found.departs


def test_masked_scores_are_equal_whatever_their_size() -> None:
    scores, others = WAVE.clone(), WAVE.clone()
    scores[:500], others[:500] = -1e30, -3e38
    assert not agreement(scores, others).departs
    others[0] = 0.5
    assert agreement(scores, others).departs


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite(number: float) -> None:
    changed = WAVE.clone()
    changed[3] = number
    for actual, expected in ((changed, WAVE), (WAVE, changed)):
        found = agreement(actual, expected)
        assert found.pcc == 0 and found.departs
    assert not agreement(changed, changed.clone()).departs


def test_another_shape_and_zeros() -> None:
    assert agreement(WAVE[:10], WAVE).departs
    nothing = torch.zeros(8)
    assert not agreement(nothing, nothing.clone()).departs
    assert agreement(nothing + 1e-3, nothing).departs and agreement(nothing, nothing + 1).departs
