"""What the recorder leaves in a part's spool directory, and how such a directory goes away."""

from __future__ import annotations

import contextlib
import shutil
import time
from pathlib import Path
from typing import Final

from relay.spool.format import LOCK_NAME, PART_NAME

ATTEMPTS_NAME: Final = "attempts"
KEPT_NAME: Final = "kept"
DAMAGED_NAME: Final = "damaged"
CRASHES_MAX: Final = 3
"""After this many deaths of the recorder with a part in hand, the part is worked on in a process of its own."""
REMNANT_AGE_S: Final = 60.0


def crashes(directory: Path) -> int:
    """How often a recorder began the part and did not live to say how it went."""
    try:
        return (directory / ATTEMPTS_NAME).stat().st_size
    except OSError:
        return 0


def note_attempt(directory: Path) -> None:
    """Count a beginning, if the disk lets us: a full one is no reason not to record."""
    with contextlib.suppress(OSError), (directory / ATTEMPTS_NAME).open("ab") as file:
        file.write(b".")


def forget_attempts(directory: Path) -> None:
    """The recorder lived through it."""
    with contextlib.suppress(OSError):
        (directory / ATTEMPTS_NAME).unlink(missing_ok=True)


def note_damage(directory: Path, why: str) -> None:
    """Part of what was spooled cannot be read: whoever finishes the part leaves its files in place."""
    (directory / DAMAGED_NAME).write_text(why + "\n")


def damage(directory: Path) -> str | None:
    """What was noted, by whichever recorder."""
    try:
        return (directory / DAMAGED_NAME).read_text().strip()
    except FileNotFoundError:
        return None


def keep(directory: Path, why: str) -> None:
    """Leave the part alone from now on, its data in place: only a person removes the mark, or the directory."""
    aside = directory / (KEPT_NAME + ".new")
    aside.write_text(why + "\n")
    aside.rename(directory / KEPT_NAME)


def is_kept(directory: Path) -> bool:
    """Whether the part is to be left alone."""
    return (directory / KEPT_NAME).exists()


def all_parts(spool_dir: Path) -> list[Path]:
    """Parts of any kind, those that are left alone too; their folder is named after the recording."""
    return sorted({mark.parent for name in (PART_NAME, KEPT_NAME) for mark in spool_dir.glob(f"*/*/{name}")})


def is_there(directory: Path) -> bool:
    """Whether the part has its header, without which nobody reads it."""
    return (directory / PART_NAME).exists()


def remove(directory: Path) -> None:
    """Delete a part whose media is stored and verified. The header goes first: a part is never read half-deleted."""
    (directory / PART_NAME).unlink(missing_ok=True)
    shutil.rmtree(directory, ignore_errors=True)
    with contextlib.suppress(OSError):  # other epochs are still there
        directory.parent.rmdir()


def remove_remnants(spool_dir: Path) -> None:
    """Delete directories without a header, which nobody can read: a deletion or a creation was cut short."""
    for lock in spool_dir.glob(f"*/*/{LOCK_NAME}"):
        directory = lock.parent
        with contextlib.suppress(OSError):
            if not is_there(directory) and time.time() - lock.stat().st_mtime > REMNANT_AGE_S:
                remove(directory)
