"""What a callback sees and may change after each step of denoising, in diffusers' shape."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mochi_aot.runtime.errors import OptionError
from mochi_aot.runtime.job import Job, check_guidance_scale
from mochi_aot.runtime.pipeline import Change, Conditioning, Pipeline
from mochi_aot.runtime.sampling import guidance_of, sigmas_of

# callback(pipe, step, timestep, {"latents": ...}) -> {"latents": ...}, or nothing
StepEnd = Callable[[Any, int, float, dict[str, Any]], dict[str, Any] | None]
TENSOR_INPUTS = ("latents",)


class Steerable:
    """The two settings of a pipeline that a callback may set. They hold for the running call."""

    def __init__(self) -> None:
        # Named as in diffusers' pipelines, whose documentation has callbacks set these very attributes.
        self._guidance_scale: float | None = None
        self._interrupt = False
        self._guidance_given = False

    @property
    def guidance_scale(self) -> float | None:
        """Guidance scale of the step that has just been done; None outside of a call.

        Set it in a callback for all steps that follow: what these take is prepared again. Raise OptionError for a
        number out of range.
        """
        return self._guidance_scale

    @guidance_scale.setter
    def guidance_scale(self, scale: float) -> None:
        check_guidance_scale(scale)
        self._guidance_scale, self._guidance_given = float(scale), True

    @property
    def interrupt(self) -> bool:
        """Whether the steps that follow are left out. Set it in a callback: what is there is then decoded."""
        return self._interrupt

    @interrupt.setter
    def interrupt(self, stop: bool) -> None:
        self._interrupt = bool(stop)

    def begin_steps(self) -> None:
        """Forget what an earlier call set."""
        self._guidance_scale, self._guidance_given, self._interrupt = None, False, False


class Steering:
    """Calls a callback after each step of one video, and keeps what it changed.

    `guidance` is float32 [steps], as it was used; `changed_latents` are steps, from 0, after which the latents were
    replaced; `done` is the number of steps.
    """

    def __init__(
        self,
        pipe: Steerable,
        callback: StepEnd,
        inputs: Sequence[str],
        pipeline: Pipeline,
        job: Job,
        start: Conditioning,
    ) -> None:
        """Take the names of what the callback gets, `inputs`. Raise OptionError for names that it cannot have."""
        for name in inputs:
            if name not in TENSOR_INPUTS:
                raise OptionError(f"a callback gets no {name!r}; it can have {', '.join(TENSOR_INPUTS)}")
        self._pipe, self._callback, self._inputs, self._pipeline = pipe, callback, inputs, pipeline
        self._sigmas, self._conditioning = sigmas_of(job), start
        self.guidance = guidance_of(job)
        self.guidance_changed = False
        self.changed_latents: list[int] = []
        self.done = 0
        pipe.begin_steps()

    def __call__(self, step: int, fetch: Callable[[], np.ndarray]) -> Change:
        """Return what the callback changed after a step, whose index counts from 0."""
        self.done = step + 1
        self._pipe._guidance_scale = float(self.guidance[step])
        before = fetch() if "latents" in self._inputs else None
        given = {} if before is None else {"latents": before.copy()}
        # Mochi's time runs from 0, noise, to 1000, the video: so the scheduler of diffusers' pipeline has it too.
        timestep = 1000.0 * (1.0 - float(self._sigmas[step]))
        returned = self._callback(self._pipe, step, timestep, given) or {}
        return Change(self._latents(step, before, returned), self._steer(step), self._pipe.interrupt)

    def _latents(self, step: int, before: np.ndarray | None, returned: dict[str, Any]) -> np.ndarray | None:
        unknown = sorted(set(returned) - set(TENSOR_INPUTS))
        if unknown:
            raise OptionError(f"the callback returned {unknown[0]!r}; it may change {', '.join(TENSOR_INPUTS)}")
        if "latents" not in returned:
            return None
        after = np.asarray(returned["latents"], np.float32)
        if before is not None and np.array_equal(after, before):
            return None
        self.changed_latents.append(step)
        return after

    def _steer(self, step: int) -> Conditioning | None:
        """Return another conditioning if the guidance scale was set, and steps follow."""
        scale, given = self._pipe._guidance_scale, self._pipe._guidance_given
        self._pipe._guidance_given = False
        if scale is None or not (given or scale != float(self.guidance[step])):
            return None
        check_guidance_scale(scale)
        following = step + 1
        if self._pipe.interrupt or np.all(self.guidance[following:] == np.float32(scale)):
            return None
        self.guidance[following:] = scale
        self.guidance_changed = True
        changed = self._pipeline.with_guidance(self._conditioning, self._sigmas, self.guidance, following)
        self._conditioning = changed
        return changed
