"""mochi-run from the command line, on a toy_bundle bundle."""

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from click.testing import CliRunner, Result
from safetensors.numpy import load_file, save_file

from mochi_aot.artifacts.reader import Bundle
from mochi_aot.runtime.noise import seeded_latents
from mochi_aot.runtime.schedule import linear_quadratic_sigmas
from mochi_aot.tools.commands.run import main
from tests.runtime import toy_bundle

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command in a fresh folder that holds the bundle `b`."""
    toy_bundle.write_bundle(tmp_path / "b")
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(main, ["b", *map(str, arguments)])


def ok(result: Result) -> Result:
    assert result.exit_code == 0, result.output
    return result


def fails(result: Result, message: str) -> None:
    """One line on stderr that has `message` in it, and nothing but the bundle and inputs in the folder."""
    assert result.exit_code in (2, 3, 4, 5, 7), result.output
    lines = [line for line in result.stderr.splitlines() if line not in ("open the bundle", "open the device")]
    assert len(lines) == 1 and lines[0].startswith("error: "), result.stderr
    assert message in result.stderr
    assert not list(Path().glob("*.mp4")) and not list(Path().glob(".*"))


def latents_of(path: str) -> np.ndarray:
    return load_file(path)["latents"]


def test_a_video_and_its_record(run: Run) -> None:
    result = ok(run("--prompt", "a red fox", "--seed", 7, "--steps", 5, "-o", "out.mp4", "--save-latents", "l.st"))
    assert result.stdout.startswith("out.mp4: 32x16, 13 frames, 5 steps, seed 7, ")
    phases = ["encode the prompt", "prepare the steps", "denoise", "decode", "write the video"]
    shown = result.stderr.splitlines()
    assert shown[:7] == ["open the bundle", "open the device", *phases]
    steps = ["  first step", "  median step"]
    rows = ["what", "imports", "open the bundle", "check the jobs", "open the device", *phases[:3], *steps, *phases[3:]]
    rows += ["weights read", "  waited for", "whole process"]
    assert [row for row, line in zip(rows, shown[7:], strict=True) if not line.startswith(row)] == []

    info = next(imageio_ffmpeg.read_frames("out.mp4"))
    assert info["size"] == (32, 16) and info["fps"] == 30.0
    assert imageio_ffmpeg.count_frames_and_secs("out.mp4")[0] == 13
    ids = np.array([[3, 4, 5, 1, 0, 0, 0, 0]])
    positive = toy_bundle.expected_embeds(ids, ids > 0)
    noise = seeded_latents(7, (1, 12, 3, 2, 4))
    expected = toy_bundle.expected_latents(noise, linear_quadratic_sigmas(5), 6.0, positive, 0 * positive)
    np.testing.assert_allclose(latents_of("l.st"), expected, rtol=1e-5, atol=1e-5)  # see test_pipeline

    record = json.loads(Path("out.json").read_text())
    assert record["arguments"] == {
        "prompt": "a red fox",
        "negative-prompt": "",
        "seed": 7,
        "steps": 5,
        "guidance-scale": 6.0,
        "sigmas": None,
        "threshold-noise": 0.025,
        "linear-steps": 2,
        "fps": 30.0,
        "geometry": "16x32x13",
        "output": "out.mp4",
        "prompt-embeds": None,
        "latents": None,
        "input-video": None,
        "strength": None,
        "save-latents": "l.st",
        "save-prompt-embeds": None,
        "decode-latents": None,
        "no-decode": False,
    }
    assert record["bundle"]["id"] == Bundle.open("b").id
    assert record["bundle"]["mesh"] == [1, 1] and record["bundle"]["target"] == "torch"
    assert record["device"] == "cpu" and set(record["versions"]) >= {"python", "numpy", "torch", "tokenizers"}
    assert list(record["seconds"]) == [*phases, "total"]
    assert sorted(path.name for path in Path().iterdir()) == ["b", "l.st", "out.json", "out.mp4"]


def test_a_profile(run: Run) -> None:
    common = ["--prompt", "a fox", "--steps", 2, "--no-decode", "--save-latents", "l.st", "--profile"]
    ok(run(*common, "profile.json"))
    profile = json.loads(Path("profile.json").read_text())
    names = {event["name"] for event in profile["traceEvents"]}
    assert {"imports", "open the device", "denoise", "step", "read", "first program"} <= names
    assert len(profile["ledger"]["steps"]["all"]) == 2
    used = sum(toy_bundle.WEIGHTS[name].nbytes for name in ("text", "w_prompt", "w_time", "w_dit"))
    assert used <= profile["ledger"]["weights"]["bytes"] < used + 4 * 4096  # with the room between them
    Path("l.st").unlink()
    assert "exists; give another name" in run(*common, "profile.json").stderr
    assert "does not exist" in run(*common, "nowhere/profile.json").stderr
    assert "would be written twice" in run(*common, "l.st").stderr
    assert not Path("l.st").exists()


def test_a_record_is_a_line_of_a_sweep(run: Run) -> None:
    ok(run("--prompt", "a green owl", "--steps", 3, "-o", "out.mp4", "--save-latents", "l.st"))
    arguments = json.loads(Path("out.json").read_text())["arguments"]
    assert isinstance(arguments["seed"], int)  # chosen, and recorded
    before = latents_of("l.st")
    Path("again.jsonl").write_text(json.dumps(arguments))
    ok(run("--sweep", "again.jsonl", "--force"))
    np.testing.assert_array_equal(latents_of("l.st"), before)


def test_prompt_equals_prompt_embeds(run: Run) -> None:
    common = ["--seed", 3, "--steps", 4]
    ok(run("--prompt", "a red fox", "--negative-prompt", "blurry snow", "--save-prompt-embeds", "p.st", *common,
           "-o", "one.mp4", "--save-latents", "one.st"))  # fmt: skip
    saved = load_file("p.st")
    assert {name: list(value.shape) for name, value in saved.items()} == {
        "prompt_embeds": [1, 8, 4],
        "prompt_attention_mask": [1, 8],
        "negative_prompt_embeds": [1, 8, 4],
        "negative_prompt_attention_mask": [1, 8],
    }
    ok(run("--prompt-embeds", "p.st", *common, "-o", "two.mp4", "--save-latents", "two.st"))
    assert Path("one.st").read_bytes() == Path("two.st").read_bytes()
    assert Path("one.mp4").read_bytes() == Path("two.mp4").read_bytes()

    save_file({name: value for name, value in saved.items() if name.startswith("prompt")}, "half.st")
    negative = ["--negative-prompt", "blurry snow"]
    ok(run("--prompt-embeds", "half.st", *negative, *common, "-o", "three.mp4", "--save-latents", "three.st"))
    assert Path("one.st").read_bytes() == Path("three.st").read_bytes()


def test_latents_equal_the_seed_they_came_from(run: Run) -> None:
    save_file({"latents": seeded_latents(5, (1, 12, 2, 2, 2))}, "noise.st")
    common = ["--prompt", "a fox", "--steps", 1, "--geometry", "16x16x7", "--no-decode", "--save-latents"]
    result = ok(run("--latents", "noise.st", *common, "one.st"))
    assert "noise from noise.st" in result.stdout
    ok(run("--seed", 5, *common, "two.st"))
    assert Path("one.st").read_bytes() == Path("two.st").read_bytes()
    record = json.loads(Path("one.json").read_text())
    assert record["arguments"]["seed"] is None and "decode" not in record["seconds"]
    assert not list(Path().glob("*.mp4"))


def test_guidance_and_negative_prompt_have_their_effects(run: Run) -> None:
    def sample(name: str, *options: object) -> np.ndarray:
        ok(run("--prompt", "a fox", "--seed", 1, "--steps", 2, "--no-decode", "--save-latents", name, *options))
        return latents_of(name)

    plain = sample("a.st", "--guidance-scale", 1)
    np.testing.assert_allclose(sample("b.st", "--guidance-scale", 1, "--negative-prompt", "blurry"), plain, atol=1e-5)
    strong = sample("c.st", "--guidance-scale", 3)
    assert np.abs(strong - plain).max() > 0.01
    assert np.abs(sample("d.st", "--guidance-scale", 3, "--negative-prompt", "blurry") - strong).max() > 0.01
    assert np.abs(sample("e.st", "--guidance-scale", 3, "--threshold-noise", 0.4) - strong).max() > 1e-4


def test_a_sweep_overrides_the_command_line(run: Run) -> None:
    jobs = [
        {"seed": 1, "output": "a.mp4", "save-latents": "a.st"},
        {"seed": 1, "output": "b.mp4", "prompt": "the green owl", "geometry": "16x16x7"},
        {"seed": 1, "no-decode": True, "save-latents": "c.st", "steps": 3},
    ]
    Path("jobs.jsonl").write_text("\n".join(json.dumps(job) for job in jobs))
    result = ok(run("--prompt", "a fox", "--steps", 2, "--sweep", "jobs.jsonl"))
    assert [line.split(",")[0] for line in result.stdout.splitlines()] == [
        "a.mp4: 32x16",
        "b.mp4: 16x16",
        "c.st: 32x16",
    ]
    assert "job 2/3: denoise" in result.stderr.splitlines()
    steps = [json.loads(Path(f"{name}.json").read_text())["arguments"]["steps"] for name in "abc"]
    assert steps == [2, 2, 3]
    ok(run("--prompt", "a fox", "--steps", 2, "--seed", 1, "-o", "d.mp4", "--save-latents", "d.st"))
    assert Path("a.st").read_bytes() == Path("d.st").read_bytes()


def test_what_is_cut_off_a_prompt_is_told_and_recorded(run: Run) -> None:
    """The bundle takes eight tokens, a word each, and the last of them ends the text."""
    kept, common = "a red fox in the green snow", ["--steps", 1, "--seed", 1]
    told = ok(run("--prompt", f"{kept} a red owl", *common, "-o", "a.mp4")).stderr.splitlines()
    assert told[1] == "warning: the prompt has more than 8 tokens; its end has no effect: 'a red owl'"
    negative = ["--negative-prompt", f"{kept} {'blurry ' * 100}"]
    told = ok(run("--prompt", kept, *negative, *common, "-o", "b.mp4")).stderr.splitlines()
    shown = ("blurry " * 100)[:200]
    problem = "the negative-prompt has more than 8 tokens; its end has no effect"
    assert told[1] == f"warning: {problem}: {shown + '... (699 characters)'!r}"
    assert "warning" not in ok(run("--prompt", kept, *common, "-o", "c.mp4")).stderr
    records = [json.loads(Path(f"{name}.json").read_text()) for name in "abc"]
    assert [record["prompt_cut"] for record in records] == ["a red owl", None, None]
    assert [record["negative_prompt_cut"] for record in records] == [None, ("blurry " * 100).strip(), None]


def test_what_is_cut_off_a_prompt_in_a_sweep_names_its_line(run: Run) -> None:
    """All lines are told of before the first job runs."""
    jobs = [{"output": "a.mp4"}, {"output": "b.mp4", "prompt": "a " * 9, "negative-prompt": "the " * 8}]
    Path("jobs.jsonl").write_text("\n".join(json.dumps(job) for job in jobs))
    told = ok(run("--prompt", "a fox", "--steps", 1, "--sweep", "jobs.jsonl")).stderr.splitlines()
    where, problem = "warning: jobs.jsonl, line 2: the", "prompt has more than 8 tokens; its end has no effect:"
    told_of = [f"{where} {problem} 'a a'", f"{where} negative-{problem} 'the'"]
    assert told[1:5] == [*told_of, "open the device", "job 1/2: encode the prompt"]
    record = json.loads(Path("b.json").read_text())
    assert (record["prompt_cut"], record["negative_prompt_cut"]) == ("a a", "the")


@pytest.mark.parametrize(
    "options",
    [
        ["--steps", 2, "--guidance-scale", 4, "--geometry", "16x16x7"],
        ["--num-steps", 2, "--cfg-scale", 4, "--height", 16, "--width", 16, "--num-frames", 7],  # Genmo's
        ["--num_steps", 2, "--cfg_scale", 4, "--num_frames", 7],  # as Genmo's command line spells them
        ["--num-inference-steps", 2, "--guidance_scale", 4.0, "--num_frames", 7],  # diffusers'
        ["--cfg-schedule", "4,4", "--num-frames", 7],
        ["--guidance-scale", "4,4", "--geometry", "*x*x7", "--threshold-noise", 0.025],
        ["--sigma-schedule", "1,0.975,0", "--cfg-scale", 4, "--width", 16],
        ["--sigmas", "1,0.975", "--cfg-scale", 4, "--width", 16, "--steps", 2],
    ],
)
def test_other_names_and_lists_mean_the_same(run: Run, options: list[object]) -> None:
    """Two steps of Mochi's schedule have the sigmas 1, 0.975 and 0."""
    ok(run("--prompt", "a fox", "--seed", 1, *options, "--no-decode", "--save-latents", "l.st"))
    ids = np.array([[3, 5, 1, 0, 0, 0, 0, 0]])
    positive = toy_bundle.expected_embeds(ids, ids > 0)
    noise, sigmas = seeded_latents(1, (1, 12, 2, 2, 2)), np.array([1, 0.975, 0])
    expected = toy_bundle.expected_latents(noise, sigmas, 4.0, positive, 0 * positive)
    np.testing.assert_allclose(latents_of("l.st"), expected, rtol=1e-5, atol=1e-5)  # see test_pipeline
    first = latents_of("l.st")
    Path("again.jsonl").write_text(json.dumps(json.loads(Path("l.json").read_text())["arguments"]))
    ok(run("--sweep", "again.jsonl", "--force", "--num-steps", 9, "--height", 16))
    np.testing.assert_array_equal(latents_of("l.st"), first)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--steps", 2, "--num-steps", 2], "steps and num_steps are one option; give it once"),
        (["--cfg-scale", 2, "--guidance-scale", 2], "cfg_scale and guidance_scale are one option; give it once"),
        (["--geometry", "16x16x7", "--num-frames", 7], "geometry and num_frames say the same thing; give one"),
        (["--guidance-scale", "6,x"], "'6,x' is not a number, or numbers with commas between them"),
        (["--sigmas", "1,,0"], "'1,,0' is not a number, or numbers with commas between them"),
    ],
)
def test_options_that_are_written_wrongly(run: Run, options: list[object], message: str) -> None:
    result = run("--prompt", "a fox", "-o", "x.mp4", *options)
    assert result.exit_code == 2 and message in result.stderr, result.output
    assert [path.name for path in Path().iterdir()] == ["b"]


def test_a_sweep_goes_on_and_is_run_again(run: Run) -> None:
    """The exit code tells that a line failed; a rerun does that line alone."""
    lines = [{"output": "a.mp4"}, {"output": "b.mp4", "latents": "noise.st"}, {"output": "c.mp4", "num_steps": 2}]
    Path("jobs.jsonl").write_text("\n".join(map(json.dumps, lines)))
    sweep = ["--prompt", "a fox", "--steps", 1, "--sweep", "jobs.jsonl"]
    result = run(*sweep, "--keep-going")
    assert result.exit_code == 3 and [line[:6] for line in result.stdout.splitlines()] == ["a.mp4:", "c.mp4:"]
    problem = "jobs.jsonl, line 2: noise.st cannot be read: No such file or directory"
    assert result.stderr.splitlines()[1] == f"warning: going on after a failure: {problem}"
    assert result.stderr.splitlines()[-1] == f"error: failed: {problem}"
    fails_at_once = run(*sweep, "--skip-existing")
    assert fails_at_once.exit_code == 3 and fails_at_once.stderr.splitlines()[-1] == f"error: {problem}"
    save_file({"latents": seeded_latents(5, (1, 12, 3, 2, 4))}, "noise.st")
    result = ok(run(*sweep, "--keep-going", "--skip-existing"))
    assert [line[:6] for line in result.stdout.splitlines()] == ["b.mp4:"]
    shown = result.stderr.splitlines()
    assert shown[1:3] == ["a.mp4 is there, with its record: skipped", "c.mp4 is there, with its record: skipped"]
    assert shown[4] == "encode the prompt"  # one job is not numbered
    assert ok(run(*sweep, "--skip-existing")).stdout == ""


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "jobs.jsonl, line 3: not JSON"),
        ('{"output": "b.mp4", "stepz": 1}', "jobs.jsonl, line 3: 'stepz' is not an option of a job"),
        ('{"output": "b.mp4", "steps": 0}', "jobs.jsonl, line 3: steps is 0"),
        ('{"output": "b.mp4", "geometry": "1x1x1"}', "jobs.jsonl, line 3: no geometry '1x1x1' in the bundle"),
        ('{"output": "b.mp4", "latents": "none.st"}', "jobs.jsonl, line 3: none.st cannot be read"),
        ('{"output": "none/b.mp4"}', "jobs.jsonl, line 3: the output folder none does not exist"),
        ('{"output": "a.mp4"}', "jobs.jsonl, line 3: the output a.mp4 would be written twice"),
    ],
)
def test_nothing_runs_if_a_line_is_broken(run: Run, line: str, message: str) -> None:
    Path("jobs.jsonl").write_text('{"output": "a.mp4"}\n\n' + line + "\n")
    fails(run("--prompt", "a fox", "--steps", 1, "--sweep", "jobs.jsonl"), message)
    assert not Path("a.json").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--prompt", "a fox"], "no output: give --output"),
        (["-o", "x.mp4"], "no prompt: give --prompt"),
        (["--prompt", "a", "-o", "x.mp4", "--steps", "0"], "steps is 0"),
        (["--prompt", "a", "-o", "x.mp4", "--threshold-noise", "2"], "threshold noise is 2"),
        (["--prompt", "a", "-o", "x.mp4", "--linear-steps", "64"], "linear steps is 64, expected 1 to 63"),
        (["--prompt", "a", "-o", "x.mp4", "--geometry", "480x848x163"], "it has 16x32x13, 16x16x7"),
        (["--prompt", "a", "-o", "x.avi"], "expected a name ending in .mp4"),
        (["--prompt", "a", "-o", "/proc/x.mp4"], "the output folder /proc cannot be written to"),
        (["--prompt", "a", "-o", "x.mp4", "--save-latents", "none/l.st"], "the output folder none does not exist"),
        (["--prompt-embeds", "none.st", "-o", "x.mp4"], "none.st cannot be read: No such file"),
        (["--prompt-embeds", "b/manifest.msgpack", "-o", "x.mp4"], "is not a safetensors file"),
        (["--sweep", "none.jsonl"], "none.jsonl cannot be read: No such file"),
    ],
)
def test_bad_input_is_one_line(run: Run, options: list[str], message: str) -> None:
    fails(run(*options), message)


def test_existing_outputs_need_force(run: Run) -> None:
    Path("out.json").write_text("mine")
    common = ["--prompt", "a fox", "--steps", 1, "-o", "out.mp4"]
    fails(run(*common), "out.json exists; give another name, or --force to replace it")
    assert Path("out.json").read_text() == "mine"
    ok(run(*common, "--force"))
    assert json.loads(Path("out.json").read_text())["arguments"]["steps"] == 1


def test_a_missing_shard(run: Run) -> None:
    next(Path("b/weights").iterdir()).unlink()
    fails(run("--prompt", "a", "-o", "x.mp4"), "is missing")


def test_no_bundle_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fails(CliRunner().invoke(main, ["none", "--prompt", "a", "-o", "x.mp4"]), "none does not exist")


def test_no_gpu_there(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    fails(run("--prompt", "a", "-o", "x.mp4", "--device", "cuda"), "torch finds no usable GPU here")


def test_an_error_in_a_later_job_names_its_line(run: Run) -> None:
    bad = np.full((1, 12, 3, 2, 4), np.nan, np.float32)
    save_file({"latents": bad}, "bad.st")
    Path("jobs.jsonl").write_text('{"output": "a.mp4"}\n{"output": "c.mp4", "latents": "bad.st"}\n')
    result = run("--prompt", "a fox", "--steps", 1, "--sweep", "jobs.jsonl")
    assert result.exit_code == 3
    assert "error: jobs.jsonl, line 2: bad.st: latents has values that are not finite" in result.stderr
    assert Path("a.mp4").exists() and Path("a.json").exists()
    assert not Path("c.mp4").exists()


def test_the_result_as_json(run: Run) -> None:
    """Alone on stdout; with the exit code of each failure."""
    lines = [{"output": "a.mp4"}, {"output": "b.mp4", "latents": "none.st"}]
    Path("jobs.jsonl").write_text("\n".join(map(json.dumps, lines)))
    result = run("--prompt", "a fox", "--steps", 2, "--sweep", "jobs.jsonl", "--keep-going", "--json")
    made = json.loads(result.stdout)
    assert [job["files"] for job in made["done"]] == [["a.mp4", "a.json"]] and made["skipped"] == 0
    message = "jobs.jsonl, line 2: none.st cannot be read: No such file or directory"
    assert made["failed"] == [{"message": message, "exit_code": 3}] and result.exit_code == 3
    assert len(made["steps"]["all"]) == 2 and "denoise" in made["seconds"]


def test_quiet_says_what_matters(run: Run) -> None:
    long = "a red fox in the green snow a red owl"
    result = ok(run("--quiet", "--prompt", long, "--steps", 1, "-o", "a.mp4"))
    assert result.stderr.splitlines() == [
        "warning: the prompt has more than 8 tokens; its end has no effect: 'a red owl'"
    ]


def test_help_names_every_option() -> None:
    text = ok(CliRunner().invoke(main, ["--help"])).output
    for option in main.params:
        assert all(name in text for name in option.opts if name.startswith("-"))


class Child:
    """mochi-run as a process of its own, whose stderr is a terminal."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.terminal, stderr = pty.openpty()
        fcntl.ioctl(stderr, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
        command = [sys.executable, "-m", "mochi_aot.tools.commands.run", "b", *arguments]
        environment = {**os.environ, "TERM": "xterm"}
        self.process = subprocess.Popen(command, cwd=folder, stderr=stderr, stdout=subprocess.PIPE, env=environment)
        os.close(stderr)
        self.text = ""

    def read_until(self, word: str, seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while word not in self.text:
            assert time.monotonic() < deadline, self.text
            self.text += self._read()

    def finish(self) -> int:
        while more := self._read():
            self.text += more
        os.close(self.terminal)
        return self.process.wait(60)

    def _read(self) -> str:
        try:
            return os.read(self.terminal, 4096).decode()
        except OSError:  # the other end is closed
            return ""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_between_steps(run: Run, tmp_path: Path, number: int, code: int) -> None:
    """Interrupted in a loop of thousands of steps: one last line, nothing half-written."""
    child = Child(tmp_path, "--prompt", "a fox", "--steps", "10000", "-o", "out.mp4", "--save-latents", "l.st")
    child.read_until(" of 10000 steps")
    child.process.send_signal(number)
    assert child.finish() == code
    assert "stopping after this step; Ctrl-C again stops at once" in child.text
    assert child.text.endswith("interrupted: 0 of 1 jobs done, no file left unfinished\r\n")
    assert "Traceback" not in child.text
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_a_bar_in_a_terminal(run: Run, tmp_path: Path) -> None:
    child = Child(tmp_path, "--prompt", "a fox", "--steps", "5", "-o", "out.mp4")
    assert child.finish() == 0
    assert re.search(r"denoise .*[0-5] of 5 steps", child.text)
