"""Presets, prompt files and several videos of a prompt, from the command line, on the toy bundle."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from safetensors.numpy import load_file

from mochi_aot.runtime.errors import OptionError
from mochi_aot.runtime.job import Job
from mochi_aot.runtime.noise import MAX_SEED
from mochi_aot.runtime.options import with_options
from mochi_aot.runtime.several import MAX_VIDEOS, several_jobs
from mochi_aot.runtime.sweep import parse_line
from mochi_aot.tools.commands.run import main
from tests.runtime import toy_bundle


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    toy_bundle.write_bundle(tmp_path / "b")
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(main, ["b", *map(str, words)])


def arguments(name: str) -> dict[str, object]:
    made: dict[str, object] = json.loads(Path(name).read_text())["arguments"]
    return made


def test_two_videos_of_each_prompt(run: Callable[..., Result]) -> None:
    """Numbers have as many digits as the last one; the seed counts on; each video is what it is alone."""
    Path("prompts.txt").write_text('\ufeffa fox\n\n  an owl, "in" the snow \n', encoding="utf-8")
    common = ("--steps", 2, "--no-decode", "--save-latents")
    result = run("--prompt-file", "prompts.txt", "--num-videos-per-prompt", 2, "--seed", 7, *common, "l.st")
    assert result.exit_code == 0, result.output
    names = sorted(path.name for path in Path().glob("l-*"))
    assert names == [f"l-{n}.{end}" for n in (1, 2, 3, 4) for end in ("json", "st")]
    made = [arguments(f"l-{n}.json") for n in (1, 2, 3, 4)]
    owl = 'an owl, "in" the snow'
    assert [(one["prompt"], one["seed"]) for one in made] == [("a fox", 7), ("a fox", 8), (owl, 9), (owl, 10)]
    assert run("--prompt", owl, "--seed", 9, *common, "alone.st").exit_code == 0
    np.testing.assert_array_equal(load_file("l-3.st")["latents"], load_file("alone.st")["latents"])


def test_numbers_of_many_videos_sort_as_they_follow() -> None:
    jobs = several_jobs(Job(output="some.where/out.mp4", save_latents="l"), ["a"], 12)
    assert (jobs[0].output, jobs[11].output, jobs[1].save_latents) == (
        "some.where/out-01.mp4",
        "some.where/out-12.mp4",
        "l-02",
    )
    assert all(job.seed is None for job in jobs)


def test_the_fast_preset(run: Callable[..., Result]) -> None:
    """Genmo's numbers; what is given beside it counts before it."""
    words = ("--prompt", "a fox", "--no-decode", "--save-latents")
    assert run(*words, "l.st", "--preset", "fast").exit_code == 0
    made = arguments("l.json")
    names = ("steps", "threshold-noise", "linear-steps", "guidance-scale")
    assert [made[name] for name in names] == [8, 0.1, 6, 1.5]
    assert run(*words, "m.st", "--preset", "fast", "--cfg-scale", 3, "--num-steps", 9).exit_code == 0
    assert [arguments("m.json")[name] for name in names] == [9, 0.1, 6, 3.0]


def test_a_preset_in_a_sweep_counts_before_the_command_line() -> None:
    base = Job(prompt="a", steps=64, guidance_scale=6.0)
    job = parse_line('{"preset": "fast", "guidance-scale": 2}', base)
    assert (job.steps, job.guidance_scale, job.linear_steps) == (8, 2.0, 6)
    with pytest.raises(OptionError, match="preset is 'slow', expected fast"):
        parse_line('{"preset": "slow"}', base)
    with pytest.raises(OptionError, match="preset and sigmas are both a schedule; give one"):
        with_options(base, {"preset": "fast", "sigmas": (1.0, 0.5)})


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--prompt-file", "none.txt"), 3, "none.txt cannot be read: No such file"),
        (("--prompt-file", "blank.txt"), 3, "blank.txt has no prompts; write one on each line"),
        (("--prompt-file", "latin.txt"), 3, "latin.txt is not UTF-8 text (byte 1)"),
        (("--prompt-file", "long.txt"), 2, "long.txt, line 2: prompt has 20000 characters"),
        (("--prompt-file", "some.txt", "--prompt", "a"), 2, "--prompt-file has the prompts; leave out --prompt"),
        (("--prompt-file", "some.txt", "--sweep", "jobs.jsonl"), 2, "--sweep has a job on each line"),
        (("--prompt", "a", "--num-videos-per-prompt", 0), 2, "--num-videos-per-prompt is 0, expected 1 or more"),
        (("--prompt", "a", "--num-videos-per-prompt", 2, "--latents", "l.st"), 2, "--latents is the noise of one"),
        (("--num-videos-per-prompt", 2), 2, "no prompt: give --prompt"),
        (("--decode-latents", "l.st", "--num-videos-per-prompt", 2), 2, "--decode-latents makes one video"),
        (("--prompt", "a", "--preset", "slow"), 2, "'slow' is not 'fast'"),
    ],
)
def test_what_cannot_be(run: Callable[..., Result], words: tuple[object, ...], code: int, message: str) -> None:
    Path("some.txt").write_text("a fox\n")
    Path("blank.txt").write_text(" \n\n")
    Path("latin.txt").write_bytes(b"a\xe9")
    Path("long.txt").write_text("a\n" + "b" * 20_000)
    result = run(*words, "-o", "out.mp4")
    assert result.exit_code == code and message in result.stderr, result.output
    assert not list(Path().glob("*.mp4"))


def test_too_many_videos_and_seeds_out_of_range() -> None:
    with pytest.raises(OptionError, match=f"2 prompts with {MAX_VIDEOS} videos each, expected {MAX_VIDEOS} videos"):
        several_jobs(Job(output="o.mp4"), ["a", "b"], MAX_VIDEOS)
    with pytest.raises(OptionError, match="too large to count on from for 2 videos"):
        several_jobs(Job(output="o.mp4", seed=MAX_SEED), ["a"], 2)
