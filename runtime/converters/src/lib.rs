//! Converts records between JSON and the formats of a schema registry: Avro, Protobuf and JSON Schema.
