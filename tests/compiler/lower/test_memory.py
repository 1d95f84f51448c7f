from mochi_aot.compiler.lower import memory
from mochi_aot.compiler.lower.memory import HUGE_PAGE, Arena


def test_memory_lies_on_pages_and_is_used_again() -> None:
    arena = Arena()
    for nbytes in (1, 4096, 5000, HUGE_PAGE, HUGE_PAGE + 1):
        tensor = arena.acquire(nbytes)
        assert tensor.numel() >= nbytes and tensor.data_ptr() % 4096 == 0
        place = tensor.data_ptr()
        arena.release(tensor)
        again = arena.acquire(nbytes)
        assert again.data_ptr() == place
        assert arena.acquire(nbytes).data_ptr() != place


def test_only_so_much_is_kept(monkeypatch) -> None:
    monkeypatch.setattr(memory, "KEPT_BYTES", 3 * 4096)
    arena = Arena()
    for tensor in [arena.acquire(4096) for _ in range(5)]:
        arena.release(tensor)
    assert arena._kept == 3 * 4096 == sum(tensor.numel() for tensor in arena._free)
