import pytest

from mochi_aot.compiler.checkpoint.table import Entry, Table, entries

SHAPES = {"a.weight": (2, 3), "a.bias": (2,), "b.weight": (4, 3), "b.bias": (4,)}


def test_a_module_stacks_weights_and_biases_and_entries_take_them_apart() -> None:
    table = Table("file", SHAPES)
    table.module("ab", "a", "b")
    weight, bias = table.sources
    assert (weight.key, weight.shape, weight.parts) == ("ab.weight", (6, 3), ("a.weight", "b.weight"))
    assert (bias.key, bias.shape) == ("ab.bias", (6,))
    assert entries(table.sources, SHAPES) == {
        "a.weight": Entry(weight, 0, 2, (2, 3)),
        "a.bias": Entry(bias, 0, 2, (2,)),
        "b.weight": Entry(weight, 2, 6, (4, 3)),
        "b.bias": Entry(bias, 2, 6, (4,)),
    }


def test_tail_gives_the_file_another_shape_for_the_weight_only() -> None:
    table = Table("file", SHAPES)
    table.module("conv", "a", tail=(3, 1, 1))
    assert [source.shape for source in table.sources] == [(2, 3, 1, 1), (2,)]


def test_a_parameter_in_two_tensors_is_refused() -> None:
    table = Table("file", SHAPES)
    table.module("ab", "a", "b")
    table.add("again", "a.bias")
    with pytest.raises(ValueError, match=r"a\.bias is in ab\.bias and in again"):
        entries(table.sources, SHAPES)


def test_a_parameter_in_no_tensor_is_refused() -> None:
    table = Table("file", SHAPES)
    table.module("a", "a")
    with pytest.raises(ValueError, match=r"no source for \['b.bias', 'b.weight'\]"):
        entries(table.sources, SHAPES)


def test_a_tensor_of_another_size_than_its_parameters_is_refused() -> None:
    table = Table("file", SHAPES)
    table.module("a", "a", tail=(2, 2))
    with pytest.raises(ValueError, match="does not hold exactly"):
        entries(table.sources, {name: SHAPES[name] for name in ("a.weight", "a.bias")})
