import java.io.DataOutputStream;
import java.io.FileOutputStream;
import java.nio.ByteBuffer;
import java.util.TreeMap;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.protocol.ApiKeys;
import org.apache.kafka.common.protocol.types.BoundField;
import org.apache.kafka.common.protocol.types.Schema;
import org.apache.kafka.common.protocol.types.Struct;
import org.apache.kafka.common.protocol.types.TaggedFields;
import org.apache.kafka.common.protocol.types.Type;
import org.apache.kafka.common.record.internal.MemoryRecords;
import org.apache.kafka.common.record.internal.SimpleRecord;

/**
 * Frames.java FILE: a request of every API in every version that Kafka's own client knows, made up by its schema: each array
 * has an element, each text the name of something that the test has. FILE is a list of frames, each with its length.
 */
public class Frames {
    public static void main(String[] args) throws Exception {
        try (DataOutputStream out = new DataOutputStream(new FileOutputStream(args[0]))) {
            for (ApiKeys api : ApiKeys.values()) {
                Schema[] schemas = api.messageType.requestSchemas();
                for (short version = api.oldestVersion(); version <= api.latestVersion(true); version++) {
                    Struct body = (Struct) example(schemas[version], "");
                    ByteBuffer frame = ByteBuffer.allocate(1 << 16);
                    frame.putShort(api.id).putShort(version).putInt(version + 1000 * api.id);
                    byte[] client = "made-up".getBytes();
                    frame.putShort((short) client.length).put(client);
                    if (api.requestHeaderVersion(version) >= 2) frame.put((byte) 0);
                    body.writeTo(frame);
                    out.writeInt(frame.position());
                    out.write(frame.array(), 0, frame.position());
                }
            }
        }
    }

    static Object example(Type type, String name) {
        if (type instanceof Schema schema) {
            Struct struct = new Struct(schema);
            for (BoundField field : schema.fields()) struct.set(field, example(field.def.type, field.def.name));
            return struct;
        }
        if (type.isArray()) return new Object[] {example(type.arrayElementType().get(), name)};
        if (type instanceof TaggedFields) return new TreeMap<Integer, Object>();
        return switch (type.toString()) {
            case "BOOLEAN" -> false;
            case "INT8" -> (byte) (name.contains("type") ? 2 : 0);
            case "INT16" -> (short) (name.contains("factor") ? 1 : name.equals("acks") ? -1 : 0);
            case "UINT16" -> 1;
            case "INT32" -> name.contains("max_bytes") ? 1 << 20 : name.contains("timeout") ? 100 : name.equals("count") || name.equals("num_partitions") ? 2 : 0;
            case "UINT32" -> 1L;
            case "INT64" -> 0L;
            case "FLOAT64" -> 1.0;
            case "UUID" -> new Uuid(0, 7);
            case "STRING", "COMPACT_STRING", "NULLABLE_STRING", "COMPACT_NULLABLE_STRING" ->
                name.contains("group") ? "g" : name.contains("member") ? "" : name.contains("protocol") ? "consumer" : "t";
            case "BYTES", "COMPACT_BYTES", "NULLABLE_BYTES", "COMPACT_NULLABLE_BYTES" -> ByteBuffer.wrap(new byte[] {0, 1, 0, 0, 0, 0});
            case "RECORDS", "COMPACT_RECORDS", "NULLABLE_RECORDS", "COMPACT_NULLABLE_RECORDS" ->
                MemoryRecords.withRecords(Compression.NONE, new SimpleRecord(1, "k".getBytes(), "v".getBytes()));
            default -> throw new IllegalArgumentException(type + " " + name);
        };
    }
}
