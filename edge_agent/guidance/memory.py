"""The file in which an agent keeps what guidance taught it.

Must never leave half a file in place of a whole one, or hand out what another version wrote as if it were known.
"""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.errors import DataError, StoreError

VERSION = 2  # 1 had neither version nor columns nor blends
MOST_BYTES = 64_000_000
Arrays = Mapping[str, NDArray[Any]]


def write(path: Path, columns: tuple[str, ...], arrays: Arrays) -> None:
    """Keep arrays and the columns of the guidance that they are about. Raises StoreError: the disk does not take it."""
    data = io.BytesIO()
    about = {"version": np.array(VERSION), "columns": np.array(columns)}
    np.savez_compressed(data, **about, **arrays)  # type: ignore[arg-type]
    beside = path.with_name(path.name + ".new")
    try:
        with beside.open("wb") as file:
            file.write(data.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        raise StoreError(f"{path}: what guidance taught cannot be kept: {error.strerror}") from None


def read(path: Path) -> tuple[int, tuple[str, ...], dict[str, NDArray[Any]]] | None:
    """Version, columns and arrays as they were written; of version 1 no columns. None: there is no file.

    Raises:
        DataError: it cannot be read, or is of a later version.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise DataError(f"{path}: too large to be ours")
        with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
            arrays = {name: kept[name] for name in kept.files}
        version = int(arrays.pop("version", np.array(1)))
        columns = tuple(str(name) for name in arrays.pop("columns", np.array([])).tolist())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: cannot be used ({error})") from None
    if not 1 <= version <= VERSION:
        raise DataError(f"{path}: cannot be used (its version is {version}, this agent knows 1 to {VERSION})")
    return version, columns, arrays
