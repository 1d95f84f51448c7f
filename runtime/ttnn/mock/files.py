"""Files and links that several processes may prepare at the same time: each appears whole, or is left as it was."""

import os
import tempfile
from pathlib import Path


def write(path: Path, text: str, mode: int = 0o644) -> Path:
    """Write a file, and its folders, unless it holds this text already; returns its path."""
    if path.is_file() and path.read_text() == text:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        new = Path(folder, path.name)
        new.write_text(text)
        new.chmod(mode)
        new.replace(path)
    return path


def link(path: Path, target: Path) -> None:
    """Make a symbolic link, and its folders, unless it points there already."""
    if path.is_symlink() and path.readlink() == target:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        new = Path(folder, path.name)
        new.symlink_to(target)
        os.replace(new, path)
