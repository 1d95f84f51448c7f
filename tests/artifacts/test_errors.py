import errno

import pytest

from mochi_aot.artifacts.errors import BundleError, MochiError, os_errors


def test_a_bundle_error_is_an_error_a_user_can_act_on() -> None:
    assert issubclass(BundleError, MochiError)


def test_an_os_error_becomes_one_line() -> None:
    with pytest.raises(BundleError, match=r"^cannot write x: No space left on device$"), os_errors("write x"):
        raise OSError(errno.ENOSPC, "No space left on device", "x")
    with pytest.raises(BundleError, match=r"^cannot read y: odd$"), os_errors("read y"):
        raise OSError("odd")


def test_other_errors_pass() -> None:
    with pytest.raises(KeyError), os_errors("write x"):
        raise KeyError
