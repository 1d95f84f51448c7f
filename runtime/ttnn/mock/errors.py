"""Why a mock mesh cannot be had."""

from mochi_aot.runtime.errors import BackendError


class MockMeshError(BackendError):
    """The mesh asked for cannot be mocked, or its files cannot be written."""


class MockPlatformError(BackendError):
    """ttnn has no wheel for this operating system, processor or Python."""


class TtnnMissingError(BackendError):
    """ttnn is not installed in this environment."""


class TtnnAlreadyImportedError(BackendError):
    """ttnn reads its environment once, when it is imported, and that has happened already."""
