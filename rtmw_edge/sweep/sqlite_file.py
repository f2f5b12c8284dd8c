"""The SQLite file of a store: opened for writing, or read where it cannot be written; its errors in sentences."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

from ..errors import BadInputError

APPLICATION = 0x52545745  # "RTWE", in the file's header


@contextmanager
def told(file: Path) -> Iterator[None]:
    """Turn SQLite's errors into sentences."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if "readonly" in str(error):
            raise BadInputError(
                f"The store {file} can only be read: you may not write it or its folder, or the disk takes nothing. "
                "Name another folder."
            ) from error
        raise BadInputError(
            f"The store {file} cannot be used ({error}); see whether the disk is full or another program has it open, "
            "and run the command again. What was recorded is kept."
        ) from error
    except sqlite3.DatabaseError as error:
        raise BadInputError(
            f"{file} is not the store of a sweep, or damaged ({error}); name another folder."
        ) from error


def connect(file: Path) -> sqlite3.Connection:
    """Open the file; BadInputError, and nothing is changed, when it is another program's."""
    with told(file):
        if file.exists() and not all(os.access(path, os.W_OK) for path in (file, file.parent)):
            return _read_only(file)
        connection = _ours(sqlite3.connect(file, timeout=60, isolation_level=None), file)
        for wait in (*[0.1] * 50, None):  # a process that makes the same change at this moment: SQLite does not wait
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                break
            except sqlite3.OperationalError:
                if wait is None:
                    raise
                time.sleep(wait)
        connection.execute("PRAGMA synchronous = FULL")
        return connection


def _read_only(file: Path) -> sqlite3.Connection:
    """Somebody else's file, or one on a disk that cannot be written, as it is now.

    SQLite would make files beside it, which would be ours and lock its owner out, so it reads a copy where the WAL has
    something: what was recorded last.
    """
    wal = file.with_name(f"{file.name}-wal")
    if not (wal.is_file() and wal.stat().st_size):
        where = f"file:{quote(str(file.absolute()))}?immutable=1"
        return _ours(sqlite3.connect(where, uri=True, isolation_level=None), file)
    read = sqlite3.connect(":memory:", isolation_level=None)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / file.name
        shutil.copyfile(file, copy)
        shutil.copyfile(wal, copy.with_name(wal.name))
        with closing(sqlite3.connect(copy)) as stored:
            stored.backup(read)
    return _ours(read, file)


def _ours(connection: sqlite3.Connection, file: Path) -> sqlite3.Connection:
    """The connection, unless the file has another program's tables."""
    connection.execute("BEGIN")  # both of one moment: another process may be making the store
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    tables = connection.execute("SELECT 1 FROM sqlite_master").fetchone()
    connection.execute("COMMIT")
    if application != APPLICATION and tables:
        raise BadInputError(f"{file} is not the store of a sweep; name another folder.")
    return connection
