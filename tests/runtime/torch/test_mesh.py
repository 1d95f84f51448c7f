"""Coordinates and groups of a mesh."""

from mochi_aot.runtime.torch.mesh import Mesh, once_per_distinct


def test_devices_are_numbered_row_by_row() -> None:
    mesh = Mesh(2, 4)
    assert mesh.size == 8
    assert [mesh.coordinate(device, 0) for device in range(8)] == [0, 0, 0, 0, 1, 1, 1, 1]
    assert [mesh.coordinate(device, 1) for device in range(8)] == [0, 1, 2, 3, 0, 1, 2, 3]


def test_a_group_differs_in_one_coordinate() -> None:
    mesh = Mesh(2, 4)
    assert mesh.groups(0) == [[0, 4], [1, 5], [2, 6], [3, 7]]
    assert mesh.groups(1) == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_identical_calls_are_computed_once() -> None:
    made: list[object] = []

    def make(*operands: object) -> object:
        made.append(operands)
        return object()

    a, b = object(), object()
    first, second, third = once_per_distinct(make, [(a, b), (b, a), (a, b)])
    assert first is third
    assert first is not second
    assert len(made) == 2
