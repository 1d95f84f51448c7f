"""All checks of a bundle and a host, in the order in which they are told."""

from collections.abc import Callable, Iterator
from typing import Any

from mochi_aot.artifacts.errors import ExitCode
from mochi_aot.artifacts.reader import Bundle
from mochi_aot.runtime.defaults import CHIPS, MOCK
from mochi_aot.runtime.geometry import geometry_name
from mochi_aot.runtime.targets import choose_device
from mochi_aot.tools.doctor import software, system
from mochi_aot.tools.doctor.check import Check, Verdict, failed, ok, warning
from mochi_aot.tools.doctor.host import Host


def examine(bundle: Bundle, device: str | None, host: Host, begin: Callable[[str], None]) -> list[Check]:
    """Return all checks. `begin` is told what those that take longer do.

    Raise BackendError for a device that the bundle's target does not run on.
    """
    chosen = choose_device(bundle.manifest.target, device)
    begin("looking at the host")
    of_target = _torch(bundle, chosen, host) if bundle.manifest.target == "torch" else _ttnn(bundle, chosen, host)
    checks = [_bundle(bundle, chosen), software.papers(bundle), system.home(host), system.scratch(bundle), *of_target]
    checks += [system.cores(host), software.tokenizer(bundle), software.ffmpeg()]
    begin("reading from the disk")
    checks.append(system.disk(bundle))
    if bundle.manifest.target == "ttnn":
        checks += _mesh(bundle, chosen, checks, begin)
    return checks


def exit_code(checks: list[Check]) -> ExitCode:
    """Return the code of the first check that failed, success for none."""
    return next((check.code for check in checks if check.verdict is Verdict.FAILED), ExitCode.SUCCESS)


def _bundle(bundle: Bundle, device: str) -> Check:
    manifest = bundle.manifest
    sizes = ", ".join(map(geometry_name, manifest.geometries))
    rows, columns = manifest.mesh
    return ok("bundle", f"{bundle.id[:12]}, {manifest.target} on {device}, mesh {rows}x{columns}, {sizes}")


def _torch(bundle: Bundle, device: str, host: Host) -> Iterator[Check]:
    yield software.torch_package()
    if device == "cuda":
        yield _gpu(host)
    yield system.memory(bundle)


def _gpu(host: Host) -> Check:
    """Tell whether NVIDIA's driver has a device; torch, which knows more, is not imported."""
    version = (host.text("proc/driver/nvidia/version") or "").partition("\n")[0]
    devices = sorted(path.name for path in (host.root / "dev").glob("nvidia[0-9]*"))
    if not version or not devices:
        return failed("gpu", "no NVIDIA driver, or no device of it", "give the container its GPU, or --device cpu")
    return ok("gpu", f"{', '.join(devices)}: {version}")


def _ttnn(bundle: Bundle, device: str, host: Host) -> Iterator[Check]:
    yield software.ttnn_package(bundle)
    yield from software.kernels(bundle, device, host)
    yield system.temporary_files(host)
    if device == CHIPS:
        from mochi_aot.tools.doctor import machine

        yield from machine.chips(bundle, host)


def _mesh(bundle: Bundle, device: str, before: list[Check], begin: Callable[[str], None]) -> Iterator[Check]:
    """Open the mesh, unless something that it needs has failed."""
    from mochi_aot.tools.doctor import machine

    numbers: dict[str, Any] = {}
    wrong = [check.name for check in before if check.verdict is Verdict.FAILED]
    if wrong:
        yield warning("mesh", f"not opened, since {', '.join(wrong)} failed", "mend these first")
    else:
        begin(f"opening the {'mocked ' if device == MOCK else ''}mesh")
        check, numbers = machine.mesh(bundle, device)
        yield check
    yield machine.dram(bundle, numbers)
