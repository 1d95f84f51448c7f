"""Sums of what the device profiler reads, from objects with the attributes that ttnn's have."""

from dataclasses import dataclass

import ttnn

from mochi_aot.tools.bringup.device_profiler import chip_seconds


@dataclass
class Result:
    duration: int


@dataclass
class Analysed:
    program_analyses_results: dict[str, Result]


def test_durations_are_summed_by_chip_and_name() -> None:
    read = {
        1: [
            Analysed({"kernel": Result(1_500_000_000)}),
            Analysed({"kernel": Result(500_000_000), "wait": Result(250)}),
        ],
        0: [],
    }
    assert chip_seconds(read) == {
        "0": {"ops": 0, "seconds": {}},
        "1": {"ops": 2, "seconds": {"kernel": 2.0, "wait": 2.5e-7}},
    }


def test_ttnn_has_what_is_read() -> None:
    """Of these names the wheel has all; what they give needs chips and a build with the profiler."""
    profiler = ttnn._ttnn.profiler
    assert callable(ttnn.ReadDeviceProfiler) and callable(profiler.get_latest_programs_perf_data)
    assert hasattr(profiler.ProgramAnalysisData, "program_analyses_results")
    assert hasattr(profiler.ProgramSingleAnalysisResult, "duration")
