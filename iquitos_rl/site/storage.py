"""Tables and JSON on disk: equal contents are written as equal bytes, damage is read as one error."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from iquitos_rl.site.errors import DatasetError

__all__ = ["TableFormat", "file_sha256", "read_json", "read_table", "to_json", "write_json", "write_table"]

TableFormat = Literal["parquet", "csv"]

TEXT_COLUMNS = ("electric_vehicle_id", "electric_vehicle_session_id")
"""Columns of identifiers, '' where there is none. CityLearn refuses a missing value in them."""


def write_table(columns: Mapping[str, Any], path: Path) -> None:
    """Write columns of equal length as Parquet or CSV, by the suffix of ``path``; NaN becomes missing."""
    # No pandas metadata and no time stamps: equal columns give equal bytes with the same pyarrow.
    table = pa.table({name: pa.array(values, from_pandas=True) for name, values in columns.items()})
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(
            table, path, compression="zstd", version="2.6", write_statistics=False, store_schema=False
        )
    else:
        pyarrow.csv.write_csv(table, path, pyarrow.csv.WriteOptions(quoting_style="none"))


def read_table(path: Path) -> pd.DataFrame:
    """Read a table written by `write_table` or by hand; identifiers come as text with '' for none.

    Raises:
        DatasetError: the file is missing, empty or not a table.
    """
    try:
        if path.suffix == ".parquet":
            # Not read_table: it would take folders called ``key=value`` above the file for columns.
            with pyarrow.parquet.ParquetFile(path) as file:
                frame = file.read().to_pandas()
        else:
            # pyarrow's reader takes a number back to the very bits that were written; pandas' may not.
            types = dict.fromkeys(TEXT_COLUMNS, pa.string())
            options = pyarrow.csv.ConvertOptions(column_types=types, strings_can_be_null=False)
            frame = _empty_as_nan(pyarrow.csv.read_csv(path, convert_options=options)).to_pandas()
    except FileNotFoundError:
        raise DatasetError(f"{path}: the file is missing") from None
    except (ValueError, OSError, MemoryError, pa.ArrowException) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DatasetError(f"{path}: not a readable table ({reason})") from None
    if not frame.columns.is_unique:
        raise DatasetError(f"{path}: column {frame.columns[frame.columns.duplicated()][0]} is there twice")
    frame = frame.reset_index(drop=True)  # a table saved by pandas may bring an index along
    for name in TEXT_COLUMNS:
        if name in frame.columns and frame[name].hasnans:
            frame[name] = frame[name].fillna("")
    return frame


def _empty_as_nan(table: pa.Table) -> pa.Table:
    """A CSV column without any value has no type; in all our tables it is one of numbers."""
    for index, column in enumerate(table.schema):
        if pa.types.is_null(column.type):
            table = table.set_column(index, column.name, table.column(index).cast(pa.float64()))
    return table


def to_json(data: object) -> str:
    """JSON text for a file: indented, with a final newline; refuses NaN, which is not JSON."""
    return json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(data: object, path: Path) -> None:
    """Write ``data`` as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(to_json(data), encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        DatasetError: the file is missing or holds no JSON object.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DatasetError(f"{path}: the file is missing") from None
    except (ValueError, OSError, RecursionError) as error:
        raise DatasetError(f"{path}: not readable as JSON ({error})") from None
    if not isinstance(data, dict):
        raise DatasetError(f"{path}: expected a JSON object")
    return data


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
