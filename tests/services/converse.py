"""Confluent's own serializers and deserializers, against a schema registry.

converse.py URL SUBJECT write       prints what they make of one order: {form: [schema, base64]}
converse.py URL SUBJECT read        reads {form: base64} from standard input, prints {form: order}
"""

import base64
import datetime
import decimal
import json
import sys

from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.json_schema import JSONDeserializer, JSONSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufDeserializer, ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory

AVRO = json.dumps({
    "type": "record", "name": "Order", "namespace": "shop", "fields": [
        {"name": "id", "type": "long"},
        {"name": "note", "type": ["null", "string"], "default": None},
        {"name": "total", "type": {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}},
        {"name": "placed", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "day", "type": {"type": "int", "logicalType": "date"}},
        {"name": "tags", "type": {"type": "map", "values": ["int", "string"]}},
        {"name": "next", "type": ["null", "Order"], "default": None},
    ],
})
JSON = json.dumps({"title": "Order", "type": "object", "required": ["id"], "properties": {"id": {"type": "integer"}}})


def order():
    """The class of the second message in a file."""
    file = descriptor_pb2.FileDescriptorProto(name="order.proto", package="shop", syntax="proto3")
    file.message_type.add(name="Other")
    message = file.message_type.add(name="Order")
    kinds = descriptor_pb2.FieldDescriptorProto
    message.field.add(name="order_id", number=1, type=kinds.TYPE_INT64, label=kinds.LABEL_OPTIONAL)
    message.field.add(name="note", number=2, type=kinds.TYPE_STRING, label=kinds.LABEL_OPTIONAL)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("shop.Order"))


def main(url, subject, action):
    client = SchemaRegistryClient({"url": url})
    where = lambda form: SerializationContext(f"{subject}-{form}", MessageField.VALUE)
    Order = order()
    if action == "write":
        avro = {
            "id": 2**53 + 1, "note": "é", "total": decimal.Decimal("-12.50"),
            "placed": datetime.datetime(2026, 11, 21, 12, 0, tzinfo=datetime.timezone.utc),
            "day": datetime.date(2026, 11, 21), "tags": {"a": 1, "b": "x"}, "next": None,
        }
        made = {
            "avro": [AVRO, AvroSerializer(client, AVRO)(avro, where("avro"))],
            "json-schema": [JSON, JSONSerializer(JSON, client)({"id": 5}, where("json-schema"))],
            "protobuf": [
                'syntax = "proto3"; package shop; message Other {} message Order { int64 order_id = 1; string note = 2; }',
                ProtobufSerializer(Order, client)(Order(order_id=2**53 + 1, note="é"), where("protobuf")),
            ],
        }
        return {form: [schema, base64.b64encode(made).decode()] for form, (schema, made) in made.items()}
    given = {form: base64.b64decode(made) for form, made in json.load(sys.stdin).items()}
    found = AvroDeserializer(client)(given["avro"], where("avro"))
    protobuf = ProtobufDeserializer(Order, {}, client)(given["protobuf"], where("protobuf"))
    return {
        "avro": {name: value if isinstance(value, (int, dict, type(None))) else str(value) for name, value in found.items()},
        "json-schema": JSONDeserializer(JSON, schema_registry_client=client)(given["json-schema"], where("json-schema")),
        "protobuf": json_format.MessageToDict(protobuf, preserving_proto_field_name=True),
    }


print(json.dumps(main(*sys.argv[1:])))
