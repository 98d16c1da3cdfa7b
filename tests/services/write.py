"""Writes an object with columns as other programs do: write.py WRITER FILE

The writers are pyarrow, pyarrow-int96, duckdb and fastavro. Of each there are two rows: one with a value in every column,
and one of nulls.
"""

import datetime
import decimal
import sys
import uuid

UTC = datetime.timezone.utc
TIME = datetime.datetime(2026, 5, 12, 10, 30, 0, 123456)


def write_pyarrow(path):
    import pyarrow
    import pyarrow.parquet

    columns = {
        "id": (pyarrow.int8(), -5),
        "large": (pyarrow.uint64(), 2**64 - 1),
        "uint32": (pyarrow.uint32(), 2**32 - 1),
        "float": (pyarrow.float32(), 0.1),
        "half": (pyarrow.float16(), 1.5),
        "double": (pyarrow.float64(), float("nan")),
        "text": (pyarrow.dictionary(pyarrow.int32(), pyarrow.string()), "é"),
        "bytes": (pyarrow.binary(), b"\xff\x00"),
        "day": (pyarrow.date32(), datetime.date(1969, 12, 31)),
        "millis": (pyarrow.timestamp("ms", "UTC"), TIME),
        "micros": (pyarrow.timestamp("us"), TIME),
        "nanos": (pyarrow.timestamp("ns", "Europe/Berlin"), TIME),
        "clock": (pyarrow.time32("ms"), datetime.time(10, 30, 0, 500000)),
        "nanoclock": (pyarrow.time64("ns"), datetime.time(10, 30)),
        "decimal": (pyarrow.decimal128(10, 2), decimal.Decimal("-12345.60")),
        "long": (pyarrow.decimal256(60, 1), decimal.Decimal("9" * 50 + ".5")),
        "list": (pyarrow.list_(pyarrow.list_(pyarrow.int64())), [[1, None], [], None]),
        "map": (pyarrow.map_(pyarrow.string(), pyarrow.int32()), [("a", 1), ("b", None)]),
        "struct": (pyarrow.struct({"x": pyarrow.list_(pyarrow.struct({"y": pyarrow.bool_()}))}), {"x": [{"y": True}, None]}),
    }
    schema = pyarrow.schema({name: kind for name, (kind, _) in columns.items()})
    rows = [{name: value for name, (_, value) in columns.items()}, {}]
    table = pyarrow.Table.from_pylist(rows, schema)
    pyarrow.parquet.write_table(table, path, compression="snappy", row_group_size=1, data_page_version="2.0")


def write_int96(path):
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table({"time": pyarrow.array([TIME, None], pyarrow.timestamp("ns"))})
    pyarrow.parquet.write_table(table, path, use_deprecated_int96_timestamps=True, compression="gzip")


def write_duckdb(path):
    import duckdb

    duckdb.sql("SET TimeZone = 'UTC'")
    row = """
        1::UTINYINT AS tiny, '00112233-4455-6677-8899-aabbccddeeff'::UUID AS uuid, 1.25::DECIMAL(4, 2) AS small,
        12345678901234567.8::DECIMAL(18, 1) AS middle, TIMESTAMPTZ '2026-05-12 10:30:00.5+02' AS time,
        TIMESTAMP '2026-05-12 10:30:00' AS local, TIME '10:30:00' AS clock, ['a', NULL] AS list,
        {'x': 1, 'y': [{'z': DATE '2026-01-01'}]} AS struct, MAP {'k': 2.5::DOUBLE} AS map, 'b'::ENUM ('a', 'b') AS word
    """
    duckdb.sql(f"CREATE TABLE rows AS SELECT {row}")
    columns = [column[0] for column in duckdb.sql("DESCRIBE rows").fetchall()]
    duckdb.sql(f"INSERT INTO rows VALUES ({', '.join('NULL' for _ in columns)})")
    duckdb.sql(f"COPY rows TO '{path}' (FORMAT parquet, COMPRESSION zstd)")


def write_fastavro(path):
    import fastavro

    def logical(kind, logical_type, **more):
        return {"type": kind, "logicalType": logical_type, **more}

    node = {"type": "record", "name": "org.Node", "fields": [{"name": "next", "type": ["null", "Node"]}]}
    fields = {
        "id": ("long", -(2**63)),
        "float": ("float", 0.5),
        "day": (logical("int", "date"), datetime.date(1969, 12, 31)),
        "clock": (logical("int", "time-millis"), datetime.time(10, 30, 0, 500000)),
        "millis": (logical("long", "timestamp-millis"), TIME.replace(tzinfo=UTC)),
        "local": (logical("long", "local-timestamp-micros"), TIME),
        "decimal": (logical("bytes", "decimal", precision=10, scale=2), decimal.Decimal("-12345.60")),
        "fixed": (logical("fixed", "decimal", precision=10, scale=1, size=8, name="D"), decimal.Decimal("1.5")),
        "uuid": (logical("string", "uuid"), uuid.UUID("00112233-4455-6677-8899-aabbccddeeff")),
        "bytes": ("bytes", b"\xff\x00"),
        "word": ({"type": "enum", "name": "Word", "symbols": ["A", "B"]}, "B"),
        "list": ({"type": "array", "items": ["null", "int", "string"]}, [1, None, "x"]),
        "map": ({"type": "map", "values": "double"}, {"k": 2.5}),
        "node": (node, {"next": {"next": None}}),
    }
    described = [{"name": name, "type": ["null", kind]} for name, (kind, _) in fields.items()]
    schema = fastavro.parse_schema({"type": "record", "name": "org.Row", "fields": described})
    rows = [{name: value for name, (_, value) in fields.items()}, {name: None for name in fields}]
    with open(path, "wb") as file:
        fastavro.writer(file, schema, rows, codec="deflate")


writer, path = sys.argv[1:]
writers = {"pyarrow": write_pyarrow, "pyarrow-int96": write_int96, "duckdb": write_duckdb, "fastavro": write_fastavro}
writers[writer](path)
