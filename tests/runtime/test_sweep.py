"""Sweep files, good and broken."""

import json
import os
from pathlib import Path

import pytest

from mochi_aot.runtime.errors import InputFileError
from mochi_aot.runtime.job import Job
from mochi_aot.runtime.sweep import read_sweep

BASE = Job(prompt="a fox", steps=8, seed=1)


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "jobs.jsonl"
    path.write_text(text, encoding="utf-8")
    return path


def test_lines_override_the_command_line(tmp_path: Path) -> None:
    text = '{"seed": 7, "output": "a.mp4"}\n\n{"prompt": null, "prompt-embeds": "p", "guidance-scale": 2}\r\n'
    assert read_sweep(write(tmp_path, text), BASE) == [
        (1, Job(prompt="a fox", steps=8, seed=7, output="a.mp4")),
        (3, Job(prompt=None, prompt_embeds="p", steps=8, seed=1, guidance_scale=2.0)),
    ]


def test_any_text_is_one_line(tmp_path: Path) -> None:
    """Python's splitlines would end a line at these characters; a byte order mark is no part of the first line."""
    prompt = "one\u2028two\u0085three\u2029four"
    assert read_sweep(write(tmp_path, f'\ufeff{{"prompt": "{prompt}"}}'), BASE)[0][1].prompt == prompt


def test_a_line_of_genmos_json(tmp_path: Path) -> None:
    """The names in the JSON that Genmo's demo writes beside a video, and those of its command line and of diffusers."""
    sigmas, scales = [1.0, 0.75, 0.0], [4.5, 4]
    genmo = {"height": 16, "width": 32, "num_frames": 13, "sigma_schedule": sigmas, "cfg_schedule": scales}
    genmo |= {"num_inference_steps": 2, "prompt": "an owl", "negative_prompt": "", "seed": 3}
    path = write(tmp_path, json.dumps(genmo) + '\n{"num-steps": 4, "cfg_scale": 3}\n')
    assert [job for _, job in read_sweep(path, BASE)] == [
        Job(
            prompt="an owl",
            negative_prompt="",
            steps=2,
            seed=3,
            guidance_scale=(4.5, 4.0),
            sigmas=(1.0, 0.75, 0.0),
            geometry="16x32x13",
        ),
        Job(prompt="a fox", steps=4, seed=1, guidance_scale=3.0),
    ]


def test_sizes_of_a_line_change_the_command_lines_geometry(tmp_path: Path) -> None:
    path = write(tmp_path, '{}\n{"num-frames": 7}\n{"height": 8, "width": 24}\n{"geometry": "1x2x3"}\n')
    with_sizes = [job.geometry for _, job in read_sweep(path, Job(prompt="a", geometry="16x*x13"))]
    assert with_sizes == ["16x*x13", "16x*x7", "8x24x13", "1x2x3"]
    assert [job.geometry for _, job in read_sweep(path, BASE)] == [None, "*x*x7", "8x24x*", "1x2x3"]
    with pytest.raises(InputFileError, match="line 2: geometry is '480x848', expected HxWxF"):
        read_sweep(path, Job(geometry="480x848"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"seed": 7', "not JSON: .* at column"),
        ("seed=7", "not JSON"),
        ("[" * 100_000, "not JSON that can be read"),
        ('{"seed": ' + "1" * 5000 + "}", "not JSON that can be read"),
        ("[1]", "expected a JSON object of option names and values"),
        ('{"sead": 7}', "'sead' is not an option of a job; they are prompt, negative-prompt, seed, "),
        ('{"device": "cuda"}', "'device' is not an option of a job"),
        ('{"seed": 7, "seed": 8}', "an option is given twice"),
        ('{"steps": "8"}', 'steps is "8", expected a whole number'),
        ('{"steps": 8.5}', "steps is 8.5, expected a whole number"),
        ('{"steps": true}', "steps is true, expected a whole number"),
        ('{"fps": null}', "fps is null, expected a number"),
        ('{"height": 1.5}', "height is 1.5, expected a whole number or null"),
        ('{"sigmas": 1}', "sigmas is 1, expected a list of numbers or null"),
        ('{"sigmas": [1, "0"]}', 'sigmas is \\[1, "0"\\], expected a list of numbers or null'),
        ('{"guidance-scale": [6, true]}', "guidance-scale is .*, expected a number or a list of numbers or null"),
        ('{"steps": 4, "num_steps": 4}', "steps and num_steps are one option; give it once"),
        ('{"cfg-scale": 4, "cfg_schedule": [4]}', "cfg-scale and cfg_schedule are one option; give it once"),
        ('{"geometry": "16x32x13", "num_frames": 13}', "geometry and num_frames say the same thing; give one"),
        ('{"seed": "x"}', 'seed is "x", expected a whole number or null'),
        ('{"guidance-scale": "6"}', 'guidance-scale is "6", expected a number'),
        ('{"guidance-scale": ' + "1" * 400 + "}", "guidance-scale is 1+, expected a number"),
        ('{"prompt": ["a"]}', 'prompt is \\["a"\\], expected text or null'),
        ('{"no-decode": 1}', "no-decode is 1, expected true or false"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = write(tmp_path, f'{{"seed": 1}}\n{line}\n')
    with pytest.raises(InputFileError, match=rf"^[^\n]*jobs.jsonl, line 2: {message}[^\n]*; nothing was run$"):
        read_sweep(path, BASE)


def test_files_without_jobs(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match="has no jobs; write one JSON object a line"):
        read_sweep(write(tmp_path, "\n \n"), BASE)
    with pytest.raises(InputFileError, match="cannot be read: No such file"):
        read_sweep(tmp_path / "none.jsonl", BASE)
    (tmp_path / "latin.jsonl").write_bytes(b'{"prompt": "\xe9"}')
    with pytest.raises(InputFileError, match=r"is not UTF-8 text \(byte 12\)"):
        read_sweep(tmp_path / "latin.jsonl", BASE)


def test_what_is_no_file_or_too_much_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A FIFO without a writer, and a device without an end; a line and a list of jobs past their limits."""
    os.mkfifo(tmp_path / "fifo")
    for path, kind in ((tmp_path / "fifo", "a FIFO"), (Path("/dev/zero"), "a device")):
        with pytest.raises(InputFileError, match=f"{path} cannot be read: it is {kind}, expected a file"):
            read_sweep(path, BASE)
    with pytest.raises(InputFileError, match="line 1: a line of 1048587 characters, expected at most 1048576"):
        read_sweep(write(tmp_path, '{"seed": ' + "[" * (1 << 20) + "]}"), BASE)
    monkeypatch.setattr("mochi_aot.runtime.sweep.MAX_JOBS", 2)
    assert len(read_sweep(write(tmp_path, "{}\n{}\n\n"), BASE)) == 2
    with pytest.raises(InputFileError, match="has more than 2 jobs"):
        read_sweep(write(tmp_path, "{}\n{}\n{}"), BASE)
