"""Semaphores outlive programs, and calls that follow each other use different ones."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import ttnn

from mochi_aot.artifacts.schema import Attr, Placement, TensorSpec
from mochi_aot.runtime.ttnn.context import Context
from mochi_aot.runtime.ttnn.ops import OPS
from mochi_aot.runtime.ttnn.semaphores import semaphores
from tests.ring_attrs import RING, ring_attrs
from tests.runtime.ttnn.on_mesh import backend, instruction, program, spec

PAD = "experimental.neighbor_pad_async"
# Three heads, as in no other test: the process that has the mesh has a cache of programs for all tests.
VISUAL = spec([1, 3, 512, 128], columns=Placement(2, 64))
TEXT = spec([1, 3, 256, 128])
LENGTH = spec([1], "uint32", "row_major")
FRAMES = spec([1, 3, 16, 32, 32], layout="row_major", rows=Placement(2, 4), columns=Placement(3, 4))


def attrs(text: int = 256 * 8) -> dict[str, Attr]:
    return ring_attrs([1, 3, 512, 128], [1, 3, text, 128], 500, text_size=256)


def pad_attrs(dims: list[int], axes: list[int]) -> dict[str, Attr]:
    one: list[Attr] = [1] * len(dims)
    return {"dim": dims, "axis": axes, "padding_left": one, "padding_right": one, "padding_mode": "replicate"}  # type: ignore[dict-item]


def passed(monkeypatch: pytest.MonkeyPatch, group: Any, name: str, calls: Callable[[], None]) -> list[dict[str, Any]]:
    """What `calls` passes to the ttnn function `name` of `group` by keyword."""
    seen = []
    function = getattr(group, name)

    def note(*tensors: Any, **keywords: Any) -> Any:
        seen.append(keywords)
        return function(*tensors, **keywords)

    monkeypatch.setattr(group, name, note)
    calls()
    return seen


def uploaded(kind: TensorSpec) -> Any:
    return backend().upload(np.ones(kind.shape, np.int32 if kind.dtype == "uint32" else np.float32), kind)


def addresses(made: list[Any]) -> tuple[int, ...]:
    return tuple(ttnn.get_global_semaphore_address(one) for one in made)


@pytest.mark.mesh
def test_a_use_has_the_same_semaphores_for_as_long_as_the_mesh_is_open() -> None:
    mesh = backend().mesh
    first = addresses(semaphores(mesh, "a", 2))
    assert len(set(first)) == 2
    assert addresses(Context(mesh).semaphores("a", 2)) == first  # of another program
    assert set(addresses(semaphores(mesh, "b", 2))).isdisjoint(first)


@pytest.mark.mesh
def test_rings_that_follow_each_other_differ_in_semaphores_buffers_and_cached_program() -> None:
    """ttnn keeps a program by the call's config, with the semaphores of its first call: four calls are two programs."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        context, x, t = Context(backend().mesh), uploaded(VISUAL), uploaded(TEXT)
        before = context.mesh.num_program_cache_entries()

        def calls() -> None:
            for _ in range(4):
                OPS[RING](attrs(), context)(x, x, x, t, t, t, uploaded(LENGTH))

        seen = passed(monkeypatch, ttnn.transformer, RING.rpartition(".")[2], calls)
        assert context.mesh.num_program_cache_entries() == before + 2
    taken = [addresses(one["multi_device_global_semaphore"]) for one in seen]
    assert taken[:2] == taken[2:] and not set(taken[0]) & set(taken[1])
    names = [f"persistent_output_buffer_{part}" for part in ("k", "v", "joint_k", "joint_v")]
    buffers = [[one[name].buffer_address() for name in names] for one in seen]
    assert buffers[:2] == buffers[2:] and len({*buffers[0], *buffers[1]}) == 8
    assert list(seen[0]["persistent_output_buffer_joint_k"].shape) == [1, 3, 2048, 128]


@pytest.mark.mesh
def test_borders_along_each_axis_take_turns_and_use_all_links() -> None:
    """Mocked 4x8 meshes have four links a neighbour; a border of one piece goes over one."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        context, x = Context(backend().mesh), uploaded(FRAMES)

        def calls() -> None:
            for dims, axes in (([2], [0]), ([3], [1])) * 3:
                OPS[PAD](pad_attrs(dims, axes), context)(x)
            OPS[PAD](pad_attrs([2, 3], [0, 1]), context)(x)

        seen = passed(monkeypatch, ttnn.experimental, PAD.rpartition(".")[2], calls)
    rows, columns = seen[0:6:2], seen[1:6:2]
    for along in (rows, columns):
        used = [(*addresses(s["neighbor_semaphore"]), *addresses(s["barrier_semaphore"])) for s in along]
        assert used[0] == used[2] and not set(used[0]) & set(used[1])
    assert not {*addresses(rows[0]["neighbor_semaphore"])} & {*addresses(columns[0]["neighbor_semaphore"])}
    # In front of the rows lie three frames, in front of the columns three frames of four rows.
    assert [one["num_links"] for one in (rows[0], columns[0], seen[-1])] == [[3], [4], [3, 4]]


@pytest.mark.mesh
def test_a_ring_of_an_older_bundle_is_refused_by_its_known_defect() -> None:
    """Its text is cut over the ring, 32 tokens a chip, and the chunk of keys is 64."""
    mesh, share = backend(), spec([1, 3, 256, 128], columns=Placement(2, 32))
    sample = program(
        {"x": VISUAL, "t": share, "l": LENGTH},
        [],
        {"y": (3, VISUAL)},
        [instruction(RING, [0, 0, 0, 1, 1, 1, 2], [3, 4], [4], **attrs(text=256))],
    )
    inputs = {"x": uploaded(VISUAL), "t": uploaded(share), "l": uploaded(LENGTH)}
    with pytest.raises(Exception, match=r"would be wrong on chips: .* known defect ring-text-share\); compile"):
        mesh.load_program(sample).run(inputs)
