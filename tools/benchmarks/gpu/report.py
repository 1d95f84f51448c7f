"""The numbers of `mochi-bench gpu` for people."""

from typing import Any

from mochi_aot.tools.benchmarks.report import machine_line, spread_table
from mochi_aot.tools.commands.text import human_bytes, human_count, table

_LOADS = {
    "cold": "file on the disk, by the ring",
    "warm": "file in the cache, by the ring",
    "plain": "file in the cache, a plain copy",
    "disk": "the disk, direct reads",
    "bus": "the bus, out of a pinned buffer",
}


def gpu_report(numbers: dict[str, Any]) -> str:
    """Return the report."""
    step, attention, decode = numbers["step"], numbers["attention"], numbers["decode"]
    return "\n".join(
        [
            machine_line(numbers),
            f"device {numbers['device']}, {numbers['libraries']}",
            f"size {numbers['size']} (preset {numbers['preset']}), {numbers['dtype']}",
            _peak_line(numbers),
            "",
            f"guided step, {step['geometry']}, {human_count(step['flops'], 'FLOP')}",
            f"difference of the results {step['difference']:.1e}, at most {step['tolerance']:.1e} allowed",
            *_of_float8(step),
            spread_table("seconds per step", step["seconds"]),
            *_failures(step),
            *_shares(step, numbers["peak_flops"]),
            *_memory(step),
            "",
            f"one layer's attention of one row, {human_count(attention['flops'], 'FLOP')}",
            spread_table("milliseconds", attention["seconds"], 1000) if attention["seconds"] else "",
            *_failures(attention),
            *_shares(attention, numbers["peak_flops"]),
            "",
            f"decoder, {decode['geometry']}, {human_count(decode['flops'], 'FLOP')}",
            f"mean difference of the frames {decode['difference_levels']:.2f} levels, "
            f"at most {decode['tolerance_levels']:.2f} allowed",
            spread_table("seconds per video", decode["seconds"]),
            *_failures(decode),
            *_shares(decode, numbers["peak_flops"]),
            *_memory(decode),
            "",
            f"loading {human_bytes(numbers['loading']['nbytes'])}",
            table(["from", "a second"], [[_LOADS[name], _rate(numbers["loading"][name])] for name in _LOADS]),
        ]
    )


def _peak_line(numbers: dict[str, Any]) -> str:
    if numbers["peak_flops"] is None:
        return f"no peak is known of {numbers['device']}: no share of it is told"
    return f"dense bfloat16 peak {human_count(numbers['peak_flops'], 'FLOP')}/s ({numbers['peak_source']})"


def _of_float8(step: dict[str, Any]) -> list[str]:
    if "float8_difference" not in step:
        return []
    return [f"in float8 {step['float8_difference']:.1e}, at most {step['float8_tolerance']:.1e} allowed"]


def _failures(part: dict[str, Any]) -> list[str]:
    return [f"{name} does not run: {reason}" for name, reason in part["failed"].items()]


def _shares(part: dict[str, Any], peak: float | None) -> list[str]:
    """Return how near each came to the card's peak: FLOPs of products, attention and convolutions over its seconds."""
    if peak is None:
        return []
    shares = {name: part["flops"] / seconds["median"] / peak for name, seconds in part["seconds"].items()}
    return ["share of the peak: " + ", ".join(f"{name} {share:.2f}" for name, share in shares.items())]


def _memory(part: dict[str, Any]) -> list[str]:
    """Return what was taken of a GPU; nothing on a host."""
    lines = []
    for key, what in (("weight_bytes", "weights"), ("memory", "most besides weights")):
        known = {name: nbytes for name, nbytes in part.get(key, {}).items() if nbytes is not None}
        if known and None not in part["memory"].values():
            lines.append(f"{what}: " + ", ".join(f"{name} {human_bytes(nbytes)}" for name, nbytes in known.items()))
    return lines


def _rate(bytes_per_second: float | None) -> str:
    return "not measured here" if bytes_per_second is None else human_bytes(round(bytes_per_second))
