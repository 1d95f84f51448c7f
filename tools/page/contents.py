"""What a page shows of a bundle, read once."""

from dataclasses import dataclass, field

from mochi_aot.artifacts.reader import Bundle
from mochi_aot.artifacts.roles import ROLES
from mochi_aot.artifacts.schema import Geometry, Manifest, Program
from mochi_aot.runtime.signatures import shown, signatures

MAX_GEOMETRIES = 8  # that are shown, of which the first is modelled


@dataclass(frozen=True)
class Sized:
    """One video size and its programs by role, in the order of a video."""

    geometry: Geometry
    programs: dict[str, Program]

    @property
    def name(self) -> str:
        """As command lines take it."""
        return f"{self.geometry.height}x{self.geometry.width}x{self.geometry.frames}"


@dataclass(frozen=True)
class Contents:
    """A bundle without its weights. `signers` are fingerprints of keys that have signed it, whatever that is worth."""

    name: str
    id: str
    manifest: Manifest
    sizes: list[Sized]
    signers: list[str] = field(default_factory=list)


def read_contents(bundle: Bundle) -> Contents:
    """Read every program that is shown. Raise BundleError, and SignatureError for what is no signature."""
    sizes = [
        Sized(geometry, {role: bundle.program(role, geometry) for role in ROLES if role in geometry.programs})
        for geometry in bundle.manifest.geometries[:MAX_GEOMETRIES]
    ]
    signers = [shown(fingerprint) for fingerprint in signatures(bundle.path)]
    return Contents(bundle.path.absolute().name, bundle.id, bundle.manifest, sizes, signers)
