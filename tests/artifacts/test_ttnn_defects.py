"""Each known defect: calls that meet it, and calls beside them that do not."""

from dataclasses import replace
from typing import Any

import pytest

from mochi_aot.artifacts import ttnn_defects
from mochi_aot.artifacts.ttnn_defects import DEFECTS, RING, known_defect, may_be_defective

VERSION = "0.81.1"


def ring(share: int, chunk: int, text: int | None, mesh: tuple[int, int] = (2, 4), **attrs: Any) -> str | None:
    """The name of the defect that a ring over axis 1 meets whose chips have `share` tokens of text each."""
    visual, words = (1, 6, 512, 128), (1, 6, share, 128)
    size = {} if text is None else {"text_size": text}
    attrs = {"axis": 1, "program_config": [256, chunk], "text_buffer": [], **size, **attrs}
    found = known_defect(RING, attrs, [visual] * 3 + [words] * 3 + [(1,)], mesh, VERSION)
    return None if found is None else found.name


@pytest.mark.parametrize(
    ("share", "chunk", "text", "met"),
    [
        # Seen on the simulator: a share of 128 with chunks of 160, and of 32 with 64, lose text.
        (128, 160, 256, True),
        (32, 64, 128, True),
        # As bundles were made before: 256 tokens over four chips.
        (64, 256, None, True),
        # Seen right: the length within one share, or a share that the chunk divides.
        (256, 160, 256, False),
        (128, 128, 256, False),
        (128, 64, 256, False),
        (64, 256, 64, False),
    ],
)
def test_a_text_over_several_shares_wants_chunks_that_divide_them(
    share: int, chunk: int, text: int | None, met: bool
) -> None:
    assert ring(share, chunk, text) == ("ring-text-share" if met else None)


def test_a_ring_without_buffers_for_the_text() -> None:
    attrs = {"axis": 1, "program_config": [256, 256], "text_size": 256}
    found = known_defect(RING, attrs, [(1, 6, 256, 128)] * 6 + [(1,)], (2, 4), VERSION)
    assert found is not None and found.name == "ring-text-buffers"


def test_a_softmax_without_a_compute_config() -> None:
    assert known_defect("softmax", {"dim": 3}, [(1, 1, 32, 32)], (1, 2), VERSION) in DEFECTS
    assert known_defect("softmax", {"dim": 3, "compute": "hifi4"}, [(1, 1, 32, 32)], (1, 2), VERSION) is None


def test_a_version_that_was_not_looked_at_is_taken_to_have_all_defects(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tuple(replace(defect, right_in=("0.82.0",)) for defect in DEFECTS)
    monkeypatch.setattr(ttnn_defects, "DEFECTS", gone)
    call = ("softmax", {"dim": 3}, [(1, 1, 32, 32)], (1, 2))
    assert [known_defect(*call, version) is None for version in ("0.81.1", "0.82.0", "0.83.0")] == [False, True, False]


def test_an_op_that_the_table_does_not_have() -> None:
    assert known_defect("add", {}, [(32, 32)], (1, 2), VERSION) is None
    assert not may_be_defective("add") and may_be_defective(RING)


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.name)
def test_a_defect_says_when_what_and_where_it_was_seen(defect: ttnn_defects.Defect) -> None:
    assert f"{defect.condition}, {defect.effect}" in str(defect) and VERSION in str(defect)
    assert defect.seen and "\n" not in str(defect)
