"""What a monitoring system reads at /metrics, in Prometheus' text form."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from mochi_aot import Usage

_LONG = (0.1, 0.5, 1, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200)  # seconds of jobs, and of waiting for them
_STEP = (0.01, 0.05, 0.1, 0.5, 1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """Counters of one server, in a registry of their own."""

    def __init__(self, waiting: Callable[[], int]) -> None:
        """Take `waiting`, which tells how many jobs are queued; it is asked whenever the page is read."""
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        queue = Gauge("mochi_queue_length", "Jobs that wait.", registry=registry)
        queue.set_function(waiting)
        self.running = Gauge("mochi_jobs_running", "Jobs that run.", registry=registry)
        self.accepted = Counter("mochi_jobs_accepted", "Jobs that were queued.", registry=registry)
        self.refused = Counter("mochi_requests_refused", "Requests refused.", ["status"], registry=registry)
        self.ended = Counter("mochi_jobs_ended", "Jobs that ended, by how.", ["status"], registry=registry)
        self.failures = Counter("mochi_job_failures", "Failed jobs by kind of error.", ["kind"], registry=registry)
        self.wait_seconds = Histogram(
            "mochi_job_wait_seconds", "From a request to the start of its job.", buckets=_LONG, registry=registry
        )
        self.run_seconds = Histogram(
            "mochi_job_run_seconds", "From the start of a job to its end.", buckets=_LONG, registry=registry
        )
        self.step_seconds = Histogram(
            "mochi_step_seconds",
            "Of a denoising step; the count is that of all steps.",
            buckets=_STEP,
            registry=registry,
        )
        self.loads = Counter("mochi_loads", "Bundles loaded.", ["model"], registry=registry)
        self.bytes_read = Counter("mochi_weight_bytes_read", "Bytes of weights read.", ["model"], registry=registry)
        self.bytes_from_disk = Counter(
            "mochi_weight_bytes_from_disk",
            "Those of them that the file cache did not have.",
            ["model"],
            registry=registry,
        )
        self.kernels = Counter(
            "mochi_kernels", "Kernels that were found built, and that had to be.", ["model", "how"], registry=registry
        )
        self.load_seconds = Gauge(
            "mochi_load_seconds", "From the start of loading to the first step.", ["model"], registry=registry
        )
        self.ready = Gauge("mochi_ready", "1 once all bundles have done a step.", registry=registry)

    def used(self, model: str, usage: Usage) -> None:
        """Count what a bundle's pipeline has read and built."""
        self.bytes_read.labels(model).inc(usage.bytes_read)
        self.bytes_from_disk.labels(model).inc(usage.from_disk)
        if usage.kernels is not None:
            self.kernels.labels(model, "found").inc(usage.kernels.found)
            self.kernels.labels(model, "built").inc(usage.kernels.built)

    def page(self) -> bytes:
        """Return the page in Prometheus' text form."""
        return generate_latest(self._registry)
