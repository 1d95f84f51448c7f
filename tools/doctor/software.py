"""Checks of what is installed, and of whether it is what the bundle was made with."""

import importlib.util
import subprocess
from collections.abc import Iterator

from mochi_aot.artifacts.errors import BundleError, ExitCode, MochiError
from mochi_aot.artifacts.layout import TOKENIZER_PATH
from mochi_aot.artifacts.reader import Bundle
from mochi_aot.artifacts.versions import installed_version
from mochi_aot.runtime.defaults import CHIPS
from mochi_aot.runtime.signatures import shown, signatures
from mochi_aot.tools.doctor.check import Check, failed, ok, warning
from mochi_aot.tools.doctor.host import Host

_FFMPEG_SECONDS = 30.0
_SFPI = "install SFPI where ttnn looks for it, /opt/tenstorrent/sfpi"


def torch_package() -> Check:
    """Tell whether torch is there, without importing it."""
    version = installed_version("torch") if importlib.util.find_spec("torch") is not None else None
    if version is None:
        return failed("torch", "not installed", "pip install 'mochi-aot[torch]'")
    return ok("torch", version)


def ttnn_package(bundle: Bundle) -> Check:
    """Tell whether ttnn is there, and whether it is the one that the bundle was compiled for."""
    from mochi_aot.runtime.ttnn.mock.installation import ttnn_package as find
    from mochi_aot.runtime.ttnn.mock.installation import ttnn_version

    try:
        find()
        here = ttnn_version()
    except MochiError as error:
        return failed("ttnn", str(error), "pip install mochi-aot, on Linux x86_64")
    made = bundle.manifest.ttnn
    if here != made:
        advice = f"pip install ttnn=={made}, or compile the bundle again: ops may mean something else in another one"
        return warning("ttnn", f"{here}, and the bundle was compiled for {made}", advice)
    return ok("ttnn", f"{here}, as the bundle was compiled for")


def kernels(bundle: Bundle, device: str, host: Host) -> Iterator[Check]:
    """Tell of the bundle's kernels whether they are found here, and of SFPI, by which ttnn builds others."""
    from mochi_aot.runtime.ttnn.mock.installation import real_sfpi
    from mochi_aot.runtime.ttnn.mock.installation import ttnn_package as find

    try:
        sfpi = real_sfpi(find())
    except MochiError:
        return  # told by ttnn_package
    problem = _unusable(bundle, device, sfpi is not None, host)
    there = bundle.manifest.kernels
    if problem is None and there is not None:
        yield ok("kernels", f"{there.count} {'of the stand-in, which do nothing' if there.stand_in else 'real ones'}")
    else:
        yield warning(
            "kernels", problem or "none", "compile again on a host like this one; until then ttnn builds them"
        )
    yield _sfpi_check(None if sfpi is None else str(sfpi), device, needed=problem is not None)


def _unusable(bundle: Bundle, device: str, compiler: bool, host: Host) -> str | None:
    """Return why ttnn would not find the bundle's kernels; None if it would."""
    from mochi_aot.runtime.ttnn.environment import CHOSEN_BY_USER, kernel_mismatch

    there = bundle.manifest.kernels
    if there is None:
        return "the bundle has none"
    chosen = [name for name in CHOSEN_BY_USER if name in host.environment]
    if chosen and device == CHIPS:
        return f"not used, since {' and '.join(chosen)} set"
    try:
        reason = kernel_mismatch(there, stand_in=device != CHIPS and not compiler)
    except (MochiError, OSError) as error:
        reason = str(error)
    return None if reason is None else f"not used: {reason}"


def _sfpi_check(place: str | None, device: str, needed: bool) -> Check:
    if place is not None:
        return ok("sfpi", place)
    if device != CHIPS:
        return ok("sfpi", "none; a stand-in builds kernels for a mocked mesh")
    if needed:
        return failed("sfpi", "none, and the bundle's kernels are not used: nothing builds kernels", _SFPI)
    return warning("sfpi", "none: what the bundle lacks cannot be built", _SFPI)


def tokenizer(bundle: Bundle) -> Check:
    """Tokenize a prompt."""
    from mochi_aot.runtime.tokenizer import open_tokenizer

    try:
        if not any(file.path == TOKENIZER_PATH for file in bundle.manifest.files):
            return warning("tokenizer", "the bundle has none", "give prompt embeddings, or compile it with one")
        _, mask = open_tokenizer(bundle).encode("a red fox in the snow")
    except BundleError as error:
        return failed("tokenizer", str(error), "copy the bundle again, or compile it again", ExitCode.INPUT)
    return ok("tokenizer", f"makes {int(mask.sum())} tokens of six words")


def ffmpeg() -> Check:
    """Start ffmpeg, and see whether it has the encoder that videos are written with."""
    import imageio_ffmpeg

    advice = "pip install imageio-ffmpeg again, or name another one with IMAGEIO_FFMPEG_EXE"
    try:
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-version"]
        said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_FFMPEG_SECONDS).stdout
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        return failed("ffmpeg", f"cannot be started: {error}".splitlines()[0], advice, ExitCode.SYSTEM)
    first = said.splitlines()[0] if said else "it said nothing"
    if "--enable-libx264" not in said:
        return failed("ffmpeg", f"{first}: without libx264", advice, ExitCode.SYSTEM)
    return ok("ffmpeg", " ".join(first.split()[:3]))


def papers(bundle: Bundle) -> Check:
    """Tell who signed the bundle, which is not verified here, and which licences came with its checkpoint."""
    signed = [shown(fingerprint) for fingerprint in signatures(bundle.path)]
    names = ", ".join(bundle.manifest.notices) or "no licence"
    by = f"signed by {', '.join(signed)}, not verified here" if signed else "not signed"
    return ok("papers", f"{by}; {names}")
