"""One thread that has one bundle loaded and makes its videos, one after the other, and one that writes them."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mochi_aot import (
    BackendError,
    BundleInfo,
    DeviceMemoryError,
    MochiError,
    Video,
    VideoPipeline,
    describe,
    load,
)
from mochi_aot.artifacts.errors import ExitCode, exit_code, one_line
from mochi_aot.tools.serve.metrics import Metrics
from mochi_aot.tools.serve.store import CANCELLED, COMPLETED, FAILED, JobStore, StoredJob

_LOG = logging.getLogger("mochi_aot")
_IDLE = 60.0  # seconds after which an idle worker looks what can be forgotten
_TRIES = 3  # of a job that meets a host that fails, after which it counts as the cause
_FAILURES_IN_A_ROW = 3  # of the device, after which it counts as broken
_PAUSE = 0.1  # seconds between two steps that are told: who watches many short ones would take time from them
_TIMES, _LEAST = 10.0, 60.0  # a step may take so many times the slowest one before it, and so many seconds in any case


class _UnwantedError(Exception):
    """Raised between two steps: the job was cancelled or deleted."""


class _EndingError(Exception):
    """Raised between two steps: the server ends, and the job is put back."""


@dataclass(frozen=True)
class Progress:
    """How far a running job is: the phase, steps done and in all, and seconds of a step so far, 0 before the first."""

    id: str
    phase: str
    step: int = 0
    steps: int = 0
    step_seconds: float = 0.0

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the last step, None where nothing tells."""
        return (self.steps - self.step) * self.step_seconds if self.step_seconds else None


@dataclass(frozen=True)
class _Run:
    """A job that was begun, and when, by the monotonic clock."""

    job: StoredJob
    began: float


@dataclass(frozen=True)
class Keeping:
    """How long finished jobs are kept, in seconds, and how many bytes of videos."""

    seconds: float
    bytes: int


class Worker(threading.Thread):
    """Loads a bundle, does one step of a video that nobody gets, then makes the videos of the queue.

    A video is written while the next one is made, so that the device does not wait for ffmpeg and the disk; the one
    after that waits, so that the host's memory holds two videos at most.

    `styles` are deltas of the bundle, by the names that jobs have for them. A job in another style than the last one's
    waits for the weights that differ.

    `changed` is called after each change of a job, `came_further` where a running one did, `gone_wrong` when no video
    can be made any more; all of them in threads of this worker.
    """

    def __init__(
        self,
        model: str,
        bundle: Path,
        styles: Mapping[str, Path],
        device: str | None,
        store: JobStore,
        keeping: Keeping,
        metrics: Metrics,
        changed: Callable[[], None],
        came_further: Callable[[], None],
        gone_wrong: Callable[[BaseException], None],
    ) -> None:
        super().__init__(name=f"worker-{model}", daemon=True)
        self.model, self.mock = model, False
        self.info: BundleInfo | None = None  # once the bundle is open, which is long before it is loaded
        self.pipe: VideoPipeline | None = None
        self.is_ready = False
        self.progress: dict[str, Progress] = {}  # of the jobs that were begun, by their ids
        self.mean_seconds = 10.0  # of a job, as the last ones took
        self.models = (model, *styles)
        self._styles, self._style = styles, model
        self._bundle, self._device, self._store, self._keeping = bundle, device, store, keeping
        self._metrics = metrics
        self._changed, self._came_further, self._gone_wrong = changed, came_further, gone_wrong
        self._writer = ThreadPoolExecutor(1, thread_name_prefix=f"writer-{model}")
        self._writing: Future[None] | None = None  # the last video
        self._began = 0.0  # when loading began
        self._ending, self._woken = False, threading.Event()
        self._told = 0.0  # when the last progress was told
        self._beat: float | None = None  # when the work that goes on now last came further
        self._slowest_step = 0.0  # but for the first of each job, which may wait for weights
        self._between_steps = False
        self._device_failures = 0

    def wake(self) -> None:
        """Tell that a job was queued."""
        self._woken.set()

    def end(self) -> None:
        """Let the thread end after the current step, or after the video that is being decoded."""
        self._ending = True
        self._woken.set()

    def trouble(self, step_limit: float) -> str | None:
        """Return why this worker should be started anew: it is stuck, or its device fails; None where all is well."""
        if self._device_failures >= _FAILURES_IN_A_ROW:
            return f"{self.model}: the device failed in {self._device_failures} jobs, one after the other"
        return self.stuck(step_limit)

    def stuck(self, step_limit: float) -> str | None:
        """Return since when nothing has happened, where that is too long for this worker to go on; else None.

        That is `step_limit` seconds, or ten times its slowest step if that is longer. After a step of a video the next
        one is due sooner: after ten times the slowest, a minute at least.
        """
        beat, slow = self._beat, _TIMES * self._slowest_step
        limit = max(slow, min(_LEAST, step_limit)) if self._between_steps and slow else max(slow, step_limit)
        if beat is None or (waited := time.monotonic() - beat) <= limit:
            return None
        return f"{self.model}: nothing has happened for {waited:.0f} s, expected {limit:.0f} at most"

    def run(self) -> None:
        try:
            self._beat = self._began = time.monotonic()
            self.info = describe(self._bundle)
            with load(self._bundle, device=self._device) as pipe:
                self.mock, self.pipe = pipe.mock, pipe
                for name in reversed(self.models):  # a delta that cannot be used is told now; the bundle itself is last
                    self._use(pipe, name)
                self._metrics.loads.labels(self.model).inc()
                try:
                    self._work(pipe)
                finally:
                    self._writer.shutdown()
        except BaseException as error:  # noqa: BLE001  the server ends with it
            self._gone_wrong(error)

    def _work(self, pipe: VideoPipeline) -> None:
        job = self._store.take(*self.models)
        while not self._ending and self._device_failures < _FAILURES_IN_A_ROW:
            if job is not None:
                self._make(pipe, job)
            elif not self.is_ready:
                self._warm_up(pipe)
            self._metrics.used(self.model, pipe.usage())
            self._store.sweep(self._keeping.seconds, self._keeping.bytes)
            job = None if self._ending else self._store.take(*self.models)
            if job is None:
                self._finish_writing()
            if job is None and self.is_ready:
                self._beat = None
                self._woken.wait(_IDLE)
                self._woken.clear()
        if job is not None:
            self._store.put_back(job)
        self._finish_writing()

    def _use(self, pipe: VideoPipeline, style: str) -> None:
        if style != self._style:
            pipe.use_delta(self._styles.get(style))
            self._style = style

    def _warm_up(self, pipe: VideoPipeline) -> None:
        """Run all programs but the decoder once: weights are resident after it, and kernels built."""
        pipe("warm-up", num_inference_steps=1, seed=0, output_type="latent")
        self._loaded()

    def _loaded(self) -> None:
        """Tell that weights are resident and a step was done."""
        self.is_ready = True
        seconds = time.monotonic() - self._began
        self._metrics.load_seconds.labels(self.model).set(seconds)
        _LOG.info("%s", f"{self.model}: ready after {seconds:.1f} s", extra={"numbers": {"model": self.model}})
        self._changed()

    def _make(self, pipe: VideoPipeline, job: StoredJob) -> None:
        """Make one video, and hand it on to be written."""
        run = _Run(job, time.monotonic())
        self._metrics.running.inc()
        self._metrics.wait_seconds.observe(max(0.0, time.time() - job.created))
        self._changed()
        video: Video | None = None
        with self._noting_its_end(run):
            video = self._made(pipe, job)
            self._device_failures = 0
        self._between_steps = False
        self._finish_writing()
        if video is not None:
            self._writing = self._writer.submit(self._write, run, video)

    def _made(self, pipe: VideoPipeline, job: StoredJob) -> Video:
        steps = int(job.arguments["num_inference_steps"])
        self._show(Progress(job.id, "encode", 0, steps))
        self._use(pipe, job.model)
        video = pipe(
            **job.arguments,
            callback_on_step_end=self._steps(job),
            callback_on_step_end_tensor_inputs=(),
        )
        self._show(Progress(job.id, "write", steps, steps))
        return video

    def _write(self, run: _Run, video: Video) -> None:
        """Write a video, which completes its job."""
        job = run.job
        with self._noting_its_end(run):
            _as_without_callback(video).save(self._store.video(job), fps=job.fps, force=True)
            self._ended(run, COMPLETED if self._store.complete(job) else CANCELLED)

    def _finish_writing(self) -> None:
        """Wait until the last video is written. Raise what the host failed with."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    @contextmanager
    def _noting_its_end(self, run: _Run) -> Iterator[None]:
        """Note what became of a job that ends within this block by an exception.

        What shows that the host fails is raised on: the server ends, and the job runs again when it is started anew.
        """
        job = run.job
        try:
            yield
        except _EndingError:
            self._store.put_back(job)
            self._ended(run, "")
        except _UnwantedError:
            self._store.drop(job)
            self._ended(run, CANCELLED)
        except (MochiError, OSError) as error:
            if _is_of_the_host(error) and job.tries < _TRIES:
                raise
            self._failed(run, type(error).__name__, one_line(error), error)
        except Exception as error:  # noqa: BLE001  a fault of one job is no reason to lose the others
            _LOG.exception("%s", f"{job.id}: internal error", extra={"numbers": {"job": job.id}})
            self._failed(run, "InternalError", "an internal error; the server's log has more", error)

    def _failed(self, run: _Run, kind: str, message: str, error: Exception) -> None:
        if isinstance(error, BackendError):
            self._device_failures += 1
        self._metrics.failures.labels(kind).inc()
        self._store.fail(run.job, kind, message)
        self._ended(run, FAILED, f": {message}")

    def _ended(self, run: _Run, status: str, detail: str = "") -> None:
        """Tell that a job has ended, or was put back: `status` is "" then."""
        seconds, name = time.monotonic() - run.began, run.job.id
        self.progress.pop(name, None)
        self._metrics.running.dec()
        if status:
            self._metrics.ended.labels(status).inc()
            self._metrics.run_seconds.observe(seconds)
        if status == COMPLETED:
            self.mean_seconds += (seconds - self.mean_seconds) / 4
        text = f"{name}: {status or 'put back'} after {seconds:.1f} s{detail}"
        _LOG.info("%s", text, extra={"numbers": {"job": name, "status": status or "queued", "seconds": seconds}})
        self._changed()

    def _steps(self, job: StoredJob) -> Callable[[Any, int, float, dict[str, Any]], None]:
        """Return the callback of a job, which shows its steps and raises where no other one is to follow."""
        steps = int(job.arguments["num_inference_steps"])
        times = [time.monotonic()]

        def step_ended(pipe: Any, step: int, timestep: float, values: dict[str, Any]) -> None:
            if not self.is_ready:
                self._loaded()
            times.append(time.monotonic())
            seconds, done = times[-1] - times[-2], step + 1
            self._slowest_step = max(self._slowest_step, seconds if done > 1 else 0.0)
            self._between_steps = done < steps
            self._metrics.step_seconds.observe(seconds)
            mean = (times[-1] - times[0]) / done if done < 2 else (times[-1] - times[1]) / (done - 1)
            self._show(Progress(job.id, "decode" if done == steps else "denoise", done, steps, mean))
            if done < steps and self._ending:
                raise _EndingError
            if not self._store.is_wanted(job):
                raise _UnwantedError

        return step_ended

    def _show(self, progress: Progress) -> None:
        """Note how far the job is; tell of each phase, and of a step where none was told just before."""
        last, now = self.progress.get(progress.id), time.monotonic()
        self.progress[progress.id], self._beat = progress, now
        if last is None or last.phase != progress.phase or now - self._told >= _PAUSE:
            self._told = now
            self._came_further()


def _is_of_the_host(error: Exception) -> bool:
    """Tell whether the host failed rather than the job: its disk is full, or fails, or ffmpeg cannot be started."""
    cause = error.__cause__ or error.__context__
    out_of_memory = isinstance(error, DeviceMemoryError) or isinstance(cause, MemoryError)  # another job may be smaller
    return exit_code(error) is ExitCode.SYSTEM and not out_of_memory


def _as_without_callback(video: Video) -> Video:
    """Return the video with the record of one that no callback saw: this server's changes nothing."""
    return replace(video, record={name: value for name, value in video.record.items() if name != "callback"})
