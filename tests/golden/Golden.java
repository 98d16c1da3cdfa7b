// Makes batches with Kafka's own Java client, and describes batches as that client reads them.
//
//   Golden make DIR           writes DIR/NAME.bin and, as read back, DIR/NAME.json
//   Golden describe FILE...   prints each batch's description
//   Golden check DIR          describes every DIR/*.bin and compares with DIR/*.json: exit code 1 and both where they differ
//
// The description is JSON in one fixed layout, so that two sides agree exactly when their texts are the same. Bytes are hex;
// more than 64 of them are told by length and CRC-32C.

import java.io.ByteArrayOutputStream;
import java.io.DataOutputStream;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.zip.CRC32C;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.common.record.internal.*;
import org.apache.kafka.common.record.internal.Record;
import org.apache.kafka.common.utils.BufferSupplier;

public class Golden {
    static final long TIME = 1_700_000_000_000L;
    static final Header[] NO_HEADERS = {};

    public static void main(String[] args) throws Exception {
        switch (args[0]) {
            case "make" -> make(Path.of(args[1]));
            case "describe" -> {
                for (int i = 1; i < args.length; i++) System.out.print(describe(Path.of(args[i])));
            }
            case "check" -> check(Path.of(args[1]));
            default -> throw new IllegalArgumentException(args[0]);
        }
    }

    // ---- make

    static void make(Path dir) throws Exception {
        for (CompressionType type : CompressionType.values()) write(dir, type.name, plain(Compression.of(type).build()));
        for (CompressionType type : CompressionType.values()) {
            if (type != CompressionType.NONE) write(dir, type.name + "-many-blocks", manyBlocks(Compression.of(type).build()));
        }
        write(dir, "headers", headers());
        write(dir, "tombstones", tombstones());
        write(dir, "commit", marker(ControlRecordType.COMMIT));
        write(dir, "abort", marker(ControlRecordType.ABORT));
        write(dir, "leader-change", leaderChange());
        write(dir, "idempotent", producer(false));
        write(dir, "transactional", producer(true));
        write(dir, "log-append-time", logAppendTime());
        write(dir, "no-timestamp", noTimestamp());
        write(dir, "negative-timestamps", negativeTimestamps());
        write(dir, "offset-gaps", offsetGaps());
        write(dir, "compacted", compacted());
        write(dir, "compacted-empty", compactedEmpty());
    }

    static MemoryRecords plain(Compression codec) {
        return MemoryRecords.withRecords(42L, codec, 7,
            new SimpleRecord(TIME, bytes("key-1"), bytes("value one")),
            new SimpleRecord(TIME + 5, bytes("key-2"), bytes("value two, value two, value two, value two")),
            new SimpleRecord(TIME - 5, bytes(""), bytes("")),
            new SimpleRecord(TIME + 100_000, bytes("a key of more than sixty-four bytes, so that its length takes two"), bytes("x".repeat(300))));
    }

    /** More than a block of every codec: 32 KiB in snappy's framing, 64 KiB in LZ4's. */
    static MemoryRecords manyBlocks(Compression codec) {
        StringBuilder text = new StringBuilder();
        for (int i = 0; text.length() < 150_000; i++) text.append("line ").append(i % 1000).append(" of a log\n");
        return MemoryRecords.withRecords(codec, new SimpleRecord(TIME, null, bytes(text.toString())), new SimpleRecord(TIME + 1, null, bytes("end")));
    }

    static MemoryRecords headers() {
        Header[] all = {
            new RecordHeader("name", bytes("value")), new RecordHeader("null", (byte[]) null), new RecordHeader("empty", bytes("")),
            new RecordHeader("", bytes("no name")), new RecordHeader("name", bytes("again")), new RecordHeader("größe", new byte[] {0, -1, -128}),
        };
        return MemoryRecords.withRecords(Compression.NONE,
            new SimpleRecord(TIME, bytes("k"), bytes("v"), all), new SimpleRecord(TIME, bytes("k"), bytes("v"), NO_HEADERS),
            new SimpleRecord(TIME, (byte[]) null, null, all));
    }

    static MemoryRecords tombstones() {
        return MemoryRecords.withRecords(Compression.NONE,
            new SimpleRecord(TIME, bytes("key"), null), new SimpleRecord(TIME, (byte[]) null, null), new SimpleRecord(TIME, null, bytes("value")));
    }

    static MemoryRecords marker(ControlRecordType type) {
        return MemoryRecords.withEndTransactionMarker(1000L, TIME, 3, 4711L, (short) 12, new EndTransactionMarker(type, 99));
    }

    static MemoryRecords leaderChange() {
        var message = new org.apache.kafka.common.message.LeaderChangeMessage().setLeaderId(1);
        return MemoryRecords.withLeaderChangeMessage(5L, TIME, 2, ByteBuffer.allocate(256), message);
    }

    static MemoryRecords producer(boolean transactional) {
        SimpleRecord[] records = {new SimpleRecord(TIME, bytes("k"), bytes("1")), new SimpleRecord(TIME + 1, bytes("k"), bytes("2"))};
        return transactional
            ? MemoryRecords.withTransactionalRecords(77L, Compression.NONE, 123_456_789_012L, (short) 3, 2_147_483_647, 9, records)
            : MemoryRecords.withIdempotentRecords(77L, Compression.NONE, 123_456_789_012L, (short) 0, 41, 9, records);
    }

    static MemoryRecords logAppendTime() {
        MemoryRecordsBuilder builder = MemoryRecords.builder(ByteBuffer.allocate(512), (byte) 2, Compression.NONE, TimestampType.LOG_APPEND_TIME, 10L, TIME + 1_000_000);
        builder.append(TIME, bytes("a"), bytes("1"));
        builder.append(TIME + 7, bytes("b"), bytes("2"));
        return builder.build();
    }

    static MemoryRecords noTimestamp() {
        return MemoryRecords.withRecords(Compression.NONE, new SimpleRecord(-1L, bytes("k"), bytes("v")));
    }

    /** The builder refuses records from before 1970, but the format has them, and readers have to take them. */
    static MemoryRecords negativeTimestamps() throws Exception {
        long[] times = {3L, -5L, -86_400_000L};
        ByteArrayOutputStream section = new ByteArrayOutputStream();
        DataOutputStream out = new DataOutputStream(section);
        for (int i = 0; i < times.length; i++) {
            DefaultRecord.writeTo(out, i, times[i] - times[0], ByteBuffer.wrap(bytes("k" + i)), ByteBuffer.wrap(bytes("v")), NO_HEADERS);
        }
        int size = DefaultRecordBatch.RECORD_BATCH_OVERHEAD + section.size();
        ByteBuffer buffer = ByteBuffer.allocate(size);
        buffer.position(DefaultRecordBatch.RECORD_BATCH_OVERHEAD);
        buffer.put(section.toByteArray());
        buffer.position(0);
        DefaultRecordBatch.writeHeader(buffer, 0L, times.length - 1, size, (byte) 2, CompressionType.NONE, TimestampType.CREATE_TIME,
            times[0], times[0], -1L, (short) -1, -1, false, false, false, -1, times.length);
        buffer.position(0);
        return MemoryRecords.readableRecords(buffer);
    }

    static MemoryRecords offsetGaps() {
        MemoryRecordsBuilder builder = MemoryRecords.builder(ByteBuffer.allocate(512), Compression.NONE, TimestampType.CREATE_TIME, 100L);
        builder.appendWithOffset(100L, TIME, bytes("a"), bytes("1"));
        builder.appendWithOffset(105L, TIME + 1, bytes("b"), bytes("2"));
        builder.appendWithOffset(300L, TIME + 2, bytes("c"), bytes("3"));
        builder.overrideLastOffset(999L);
        return builder.build();
    }

    /** What the log cleaner leaves: records of ten taken away, the extent kept, a tombstone with its delete horizon. */
    static MemoryRecords compacted() {
        SimpleRecord[] records = new SimpleRecord[10];
        for (int i = 0; i < 10; i++) records[i] = new SimpleRecord(TIME + i, bytes("k" + i), i == 4 ? null : bytes("value " + i));
        return filter(MemoryRecords.withRecords(500L, Compression.gzip().build(), 6, records), 3, 4, 7);
    }

    /** The cleaner keeps a producer's last batch, without records, for its sequence numbers. */
    static MemoryRecords compactedEmpty() {
        return filter(MemoryRecords.withIdempotentRecords(77L, Compression.NONE, 4711L, (short) 1, 41, 9,
            new SimpleRecord(TIME, bytes("k"), bytes("1")), new SimpleRecord(TIME + 1, bytes("k"), bytes("2"))));
    }

    static MemoryRecords filter(MemoryRecords records, int... kept) {
        ByteBuffer out = ByteBuffer.allocate(1024);
        long base = records.batches().iterator().next().baseOffset();
        records.filterTo(new MemoryRecords.RecordFilter(TIME + 50_000, 86_400_000L) {
            @Override
            protected BatchRetentionResult checkBatchRetention(RecordBatch batch) {
                return new BatchRetentionResult(BatchRetention.RETAIN_EMPTY, false);
            }

            @Override
            protected boolean shouldRetainRecord(RecordBatch batch, Record record) {
                for (int delta : kept) if (record.offset() == base + delta) return true;
                return false;
            }
        }, out, BufferSupplier.NO_CACHING);
        out.flip();
        return MemoryRecords.readableRecords(out);
    }

    static void write(Path dir, String name, MemoryRecords records) throws Exception {
        ByteBuffer buffer = records.buffer().duplicate();
        byte[] bytes = new byte[buffer.remaining()];
        buffer.get(bytes);
        Path file = dir.resolve(name + ".bin");
        Files.write(file, bytes);
        Files.writeString(dir.resolve(name + ".json"), describe(file));
    }

    // ---- describe

    static String describe(Path file) throws Exception {
        MemoryRecords all = MemoryRecords.readableRecords(ByteBuffer.wrap(Files.readAllBytes(file)));
        var batches = all.batches().iterator();
        DefaultRecordBatch batch = (DefaultRecordBatch) batches.next();
        if (batches.hasNext() || batch.sizeInBytes() != all.sizeInBytes()) throw new IllegalStateException(file + ": more than one batch");
        batch.ensureValid();
        List<String> records = new ArrayList<>();
        for (Record record : batch) {
            record.ensureValid();
            records.add(describe(record, batch.isControlBatch()));
        }
        String horizon = batch.deleteHorizonMs().isPresent() ? Long.toString(batch.deleteHorizonMs().getAsLong()) : "null";
        return "{\"base_offset\":" + batch.baseOffset() + ",\"last_offset\":" + batch.lastOffset() + ",\"leader_epoch\":" + batch.partitionLeaderEpoch()
            + ",\"size\":" + batch.sizeInBytes() + ",\"count\":" + batch.countOrNull()
            + ",\n \"compression\":\"" + batch.compressionType().name + "\",\"timestamp_type\":\"" + batch.timestampType().name
            + "\",\"transactional\":" + batch.isTransactional() + ",\"control\":" + batch.isControlBatch() + ",\"delete_horizon\":" + horizon
            + ",\n \"base_timestamp\":" + batch.baseTimestamp() + ",\"max_timestamp\":" + batch.maxTimestamp()
            + ",\"producer_id\":" + batch.producerId() + ",\"producer_epoch\":" + batch.producerEpoch() + ",\"base_sequence\":" + batch.baseSequence()
            + ",\n \"records\":[" + String.join(",", records) + "]}\n";
    }

    static String describe(Record record, boolean control) {
        List<String> headers = new ArrayList<>();
        for (Header header : record.headers()) {
            headers.add("[\"" + header.key() + "\"," + text(header.value() == null ? null : ByteBuffer.wrap(header.value())) + "]");
        }
        return "\n  {\"offset\":" + record.offset() + ",\"timestamp\":" + record.timestamp() + ",\"key\":" + text(record.key())
            + ",\"value\":" + text(record.value()) + ",\"headers\":[" + String.join(",", headers) + "]"
            + (control ? ",\"control\":" + ControlRecordType.parseTypeId(record.key().duplicate()) : "") + "}";
    }

    static String text(ByteBuffer bytes) {
        if (bytes == null) return "null";
        StringBuilder text = new StringBuilder("\"");
        if (bytes.remaining() > 64) {
            CRC32C crc = new CRC32C();
            crc.update(bytes.duplicate());
            text.append(String.format("%d bytes, crc %08x", bytes.remaining(), crc.getValue()));
        } else {
            for (int i = bytes.position(); i < bytes.limit(); i++) text.append(String.format("%02x", bytes.get(i)));
        }
        return text.append('"').toString();
    }

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    // ---- check

    static void check(Path dir) throws Exception {
        int checked = 0, wrong = 0;
        List<Path> files;
        try (var list = Files.list(dir)) {
            files = list.filter(file -> file.toString().endsWith(".bin")).sorted().toList();
        }
        for (Path file : files) {
            String name = file.getFileName().toString().replaceAll("\\.bin$", "");
            String theirs = Files.readString(dir.resolve(name + ".json"));
            String ours;
            try {
                ours = describe(file);
            } catch (Exception e) {
                ours = "cannot be read: " + e + "\n";
            }
            checked++;
            if (!ours.equals(theirs)) {
                wrong++;
                System.err.print(name + ": Java reads\n" + ours + "but this was meant:\n" + theirs);
            }
        }
        System.out.println(checked + " batches read by Java, " + wrong + " of them wrong");
        // No batch at all is a mistake of whoever calls, not agreement.
        System.exit(checked > 0 && wrong == 0 ? 0 : 1);
    }
}
