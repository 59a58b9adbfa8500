"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from bittern.errors import InputError


def write_atomic(path: str | os.PathLike[str], data: bytes) -> None:
    """Write ``data`` to ``path``: a temporary file in the same directory, flushed to the disk, then renamed.

    Whatever fails or interrupts, ``path`` holds its old content or the whole new one, and no temporary file stays.
    Raises InputError if the path cannot be written.
    """
    import tempfile  # slow to import, and programs that only run networks never write

    place = os.fspath(path)
    target = Path(os.path.realpath(place))  # a symbolic link keeps pointing where it did
    try:
        mode = _mode_for(target)
    except OSError as error:
        raise InputError(place, f"cannot be written: {error.strerror}", "choose another output path") from None
    if mode is None:
        raise InputError(place, "exists and is not a regular file", "choose another output path")
    temporary = ""
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{target.name[:64]}.", suffix=".tmp", dir=target.parent)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, mode)
        os.replace(temporary, target)
        temporary = ""
    except OSError as error:
        raise InputError(
            place, f"cannot be written: {error.strerror}", "check that the directory exists, is writable and has space"
        ) from None
    finally:
        if temporary:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
    _sync_directory(target.parent)


def _mode_for(target: Path) -> int | None:
    """The permissions that the new file gets; None if something that is no regular file stands there."""
    try:
        status = target.stat()
    except FileNotFoundError:
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask
    return stat.S_IMODE(status.st_mode) if stat.S_ISREG(status.st_mode) else None


def _sync_directory(directory: Path) -> None:
    """Make the rename durable where the system can; the content is complete either way."""
    with contextlib.suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
