"""Reads objects with columns and prints their rows as JSON: read.py READER FILE...

pyarrow, duckdb, fastavro and csv print a list of rows for each file; schema prints what pyarrow makes of each file's schema;
groups prints the rows and bytes of each file's row groups; union prints the rows of all files as one DuckDB table.
"""

import csv
import datetime
import gzip
import io
import json
import sys


def plain(value):
    """What JSON has no word for, as text."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, datetime.datetime):
        if value.tzinfo is not None:
            value = value.astimezone(datetime.timezone.utc)
        return value.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return str(value)


def inflated(path):
    data = open(path, "rb").read()
    if path.endswith(".gz"):
        return gzip.decompress(data)
    if path.endswith(".zst"):
        import zstandard

        return zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data)).read()
    if path.endswith(".sz"):
        import cramjam

        return bytes(cramjam.snappy.decompress(data))
    if path.endswith(".lz4"):
        import lz4.frame

        return lz4.frame.decompress(data)
    return data


def read_duckdb(query, files):
    import duckdb

    duckdb.sql("SET TimeZone = 'UTC'")
    found = duckdb.sql(query.format(files=json.dumps(files).replace('"', "'")))
    return [dict(zip(found.columns, row)) for row in found.fetchall()]


def read(reader, path):
    if reader in ("pyarrow", "schema", "groups"):
        import pyarrow.parquet

        file = pyarrow.parquet.ParquetFile(path)
        if reader == "schema":
            return {field.name: f"{field.type}{'' if field.nullable else ' not null'}" for field in file.schema_arrow}
        if reader == "groups":
            groups = [file.metadata.row_group(group) for group in range(file.metadata.num_row_groups)]
            return [[group.num_rows, group.total_byte_size] for group in groups]
        return file.read().to_pylist()
    if reader == "duckdb":
        return read_duckdb("SELECT * FROM read_parquet({files})", [path])
    if reader == "fastavro":
        import fastavro

        return list(fastavro.reader(open(path, "rb")))
    if reader == "csv":
        return list(csv.DictReader(io.StringIO(inflated(path).decode(), newline="")))
    raise SystemExit(f"unknown reader {reader}")


reader, files = sys.argv[1], sys.argv[2:]
if reader == "union":
    answer = read_duckdb("SELECT * FROM read_parquet({files}, union_by_name = true) ORDER BY _offset", files)
else:
    answer = [read(reader, path) for path in files]
json.dump(answer, sys.stdout, default=plain)
