"""What `mochi-bench quality` prints."""

from typing import Any

from mochi_aot.tools.commands.text import table

NOTES = (
    "PSNR and SSIM against the first row, at equal seeds; PSNR of all videos together, and of the worst one",
    "colour, shape, motion, all three: the share of videos that show what their prompts say, measured on the frames",
)


def quality_report(numbers: dict[str, Any]) -> str:
    """Return the table, with its settings."""
    paths = numbers["paths"]
    semantic = paths[0]["right"] is not None
    header = ["path", "PSNR dB", "worst", "SSIM", *(list(paths[0]["right"]) if semantic else [])]
    lines = [
        f"{numbers['prompts']} prompts, {numbers['geometry']}, {numbers['steps']} steps at guidance scale "
        f"{numbers['guidance_scale']:g}",
        "",
        table(header, [_row(path) for path in paths]),
        "",
        *NOTES[: 2 if semantic else 1],
    ]
    return "\n".join(lines)


def _row(path: dict[str, Any]) -> list[str]:
    decibels = ["equal" if value is None else f"{value:.1f}" for value in (path["psnr"], path["worst"])]
    shares = [f"{100 * value:.1f}%" for value in (path["right"] or {}).values()]
    return [path["name"], *decibels, f"{path['ssim']:.4f}", *shares]
