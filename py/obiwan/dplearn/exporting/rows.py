"""Rows of the example table as numbers and strings of Python."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from obiwan.dplearn.stampspec import Array

Plain: TypeAlias = int | float | str


def text_columns(rows: Array) -> dict[str, Array]:
    """Columns of a table, those of bytes as strings."""
    names = rows.dtype.names or ()
    return {
        name: np.char.decode(rows[name], "ascii") if rows[name].dtype.kind == "S" else rows[name]
        for name in names
    }


def plain_rows(rows: Array) -> list[dict[str, Plain]]:
    """A dictionary a row; every number is the one of the table, exactly."""
    columns: dict[str, list[Any]] = {name: values.tolist() for name, values in text_columns(rows).items()}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
