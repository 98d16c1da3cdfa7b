import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TreeMap;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.InvalidProducerEpochException;
import org.apache.kafka.common.errors.ProducerFencedException;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * Transactions.java BOOTSTRAP WHAT ARGS...: Kafka's own client in transactions.
 *
 * <pre>
 * ends TOPIC                               commits and aborts, and reads both ways
 * fences TOPIC                             a second producer of the same transactional id, and what the first may still do
 * times-out TOPIC                          a transaction that takes too long
 * hangs TOPIC ID SECONDS                   leaves a transaction open
 * writes TOPIC PARTITIONS WRITERS FOLDER   transactions until FOLDER has a file `stop`; FOLDER/told-N: `number committed|aborted`
 * copies FROM TO PARTITIONS COPIERS FOLDER reads FROM and writes each record TO in transactions until FOLDER has a file `stop`
 * reads TOPIC PARTITIONS                   all that is committed, `partition offset value` by line
 * </pre>
 */
public class Transactions {
    static String bootstrap;

    public static void main(String[] args) throws Exception {
        bootstrap = args[0];
        switch (args[1]) {
            case "ends" -> ends(args[2]);
            case "fences" -> fences(args[2]);
            case "times-out" -> timesOut(args[2]);
            case "hangs" -> hangs(args[2], args[3], Integer.parseInt(args[4]));
            case "writes" -> together(Integer.parseInt(args[4]),
                n -> writes(args[2], Integer.parseInt(args[3]), n, Path.of(args[5])));
            case "copies" -> together(Integer.parseInt(args[5]),
                n -> copies(args[2], args[3], n, Path.of(args[6])));
            case "reads" -> read(args[2], Integer.parseInt(args[3]), true).forEach((place, value) ->
                System.out.println(place + " " + value));
            default -> throw new IllegalArgumentException(args[1]);
        }
    }

    interface Work {
        void run(int number) throws Exception;
    }

    static void together(int count, Work work) throws Exception {
        Thread[] threads = new Thread[count];
        for (int n = 0; n < count; n++) {
            int number = n;
            threads[n] = new Thread(() -> {
                try {
                    work.run(number);
                } catch (Throwable cause) {
                    cause.printStackTrace();
                    System.exit(1);
                }
            });
            threads[n].start();
        }
        for (Thread thread : threads) thread.join();
    }

    static Properties patient() {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", bootstrap);
        properties.put("request.timeout.ms", "10000");
        properties.put("reconnect.backoff.ms", "20");
        properties.put("reconnect.backoff.max.ms", "100");
        properties.put("retry.backoff.ms", "10");
        properties.put("retry.backoff.max.ms", "50");
        return properties;
    }

    static KafkaProducer<String, String> producer(String id, int timeout) {
        Properties properties = patient();
        properties.put("transactional.id", id);
        properties.put("transaction.timeout.ms", Integer.toString(timeout));
        properties.put("delivery.timeout.ms", "120000");
        properties.put("max.block.ms", "120000");
        properties.put("linger.ms", "1");
        KafkaProducer<String, String> producer = new KafkaProducer<>(properties, new StringSerializer(), new StringSerializer());
        producer.initTransactions();
        return producer;
    }

    static KafkaConsumer<String, String> consumer(boolean committed, String group) {
        Properties properties = patient();
        properties.put("isolation.level", committed ? "read_committed" : "read_uncommitted");
        properties.put("auto.offset.reset", "earliest");
        properties.put("enable.auto.commit", "false");
        properties.put("default.api.timeout.ms", "120000");
        if (group != null) {
            properties.put("group.id", group);
            properties.put("session.timeout.ms", "6000");
        }
        return new KafkaConsumer<>(properties, new StringDeserializer(), new StringDeserializer());
    }

    /** All of a topic, `partition offset` to value, in order. */
    static Map<String, String> read(String topic, int partitions, boolean committed) {
        Map<String, String> found = new TreeMap<>();
        try (KafkaConsumer<String, String> consumer = consumer(committed, null)) {
            List<TopicPartition> all = new ArrayList<>();
            for (int n = 0; n < partitions; n++) all.add(new TopicPartition(topic, n));
            consumer.assign(all);
            consumer.seekToBeginning(all);
            Map<TopicPartition, Long> ends = consumer.endOffsets(all);
            while (all.stream().anyMatch(of -> consumer.position(of) < ends.get(of))) {
                for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(200))) {
                    found.put(String.format("%d %08d", record.partition(), record.offset()), record.value());
                }
            }
        }
        return found;
    }

    static void expect(boolean holds, String what) {
        if (!holds) throw new AssertionError(what);
    }

    static void ends(String topic) throws Exception {
        List<String> all = new ArrayList<>();
        List<String> committed = new ArrayList<>();
        try (KafkaProducer<String, String> producer = producer("ends", 60_000)) {
            for (int n = 0; n < 10; n++) {
                producer.beginTransaction();
                for (int part = 0; part < 3; part++) {
                    String value = n + ":" + part;
                    producer.send(new ProducerRecord<>(topic, part % 2, null, value));
                    all.add(value);
                    if (n % 3 != 1) committed.add(value);
                }
                if (n % 3 == 1) {
                    producer.flush();
                    producer.abortTransaction();
                } else {
                    producer.commitTransaction();
                }
            }
            // One that is open holds up only who reads what is committed.
            producer.beginTransaction();
            producer.send(new ProducerRecord<>(topic, 0, null, "open")).get();
            all.add("open");
            check(topic, all, committed);
            producer.commitTransaction();
            committed.add("open");
            check(topic, all, committed);
        }
        System.out.println("ended " + committed.size() + " of " + all.size());
    }

    static void check(String topic, List<String> all, List<String> committed) {
        List<String> uncommitted = new ArrayList<>(read(topic, 2, false).values());
        List<String> found = new ArrayList<>(read(topic, 2, true).values());
        for (List<String> list : List.of(all, committed, uncommitted, found)) Collections.sort(list);
        expect(uncommitted.equals(all), uncommitted + " and not " + all);
        expect(found.equals(committed), found + " and not " + committed);
    }

    static void fences(String topic) throws Exception {
        KafkaProducer<String, String> zombie = producer("fences", 60_000);
        zombie.beginTransaction();
        zombie.send(new ProducerRecord<>(topic, 0, null, "zombie")).get();
        try (KafkaProducer<String, String> producer = producer("fences", 60_000)) {
            producer.beginTransaction();
            producer.send(new ProducerRecord<>(topic, 0, null, "successor")).get();
            try {
                zombie.send(new ProducerRecord<>(topic, 0, null, "zombie again")).get();
                throw new AssertionError("a zombie writes");
            } catch (java.util.concurrent.ExecutionException fenced) {
                Throwable cause = fenced.getCause();
                boolean isFenced = cause instanceof ProducerFencedException || cause instanceof InvalidProducerEpochException;
                expect(isFenced, cause.toString());
            }
            try {
                zombie.commitTransaction();
                throw new AssertionError("a zombie commits");
            } catch (org.apache.kafka.common.KafkaException fenced) {
                System.out.println("fenced: " + fenced);
            }
            producer.commitTransaction();
        }
        zombie.close(Duration.ZERO);
        expect(read(topic, 1, true).values().stream().toList().equals(List.of("successor")), "" + read(topic, 1, true));
    }

    static void timesOut(String topic) throws Exception {
        try (KafkaProducer<String, String> producer = producer("slow", 1000)) {
            producer.beginTransaction();
            producer.send(new ProducerRecord<>(topic, 0, null, "late")).get();
            long begun = System.currentTimeMillis();
            // A reader of what is committed is let go on.
            try (KafkaConsumer<String, String> consumer = consumer(true, null)) {
                TopicPartition of = new TopicPartition(topic, 0);
                consumer.assign(List.of(of));
                while (consumer.endOffsets(List.of(of)).get(of) < 2) {
                    expect(System.currentTimeMillis() - begun < 30_000, "a transaction does not time out");
                    Thread.sleep(50);
                }
            }
            try {
                producer.commitTransaction();
                throw new AssertionError("a transaction that has timed out is committed");
            } catch (org.apache.kafka.common.KafkaException fenced) {
                System.out.println("timed out: " + fenced);
            }
        }
        expect(read(topic, 1, true).isEmpty(), "" + read(topic, 1, true));
    }

    static void hangs(String topic, String id, int seconds) throws Exception {
        KafkaProducer<String, String> producer = producer(id, 900_000);
        producer.beginTransaction();
        // As if an hour ago: tools look at what is older than a transaction may get.
        long then = System.currentTimeMillis() - 3_600_000;
        producer.send(new ProducerRecord<>(topic, 0, then, null, "hangs")).get();
        System.out.println("open");
        Thread.sleep(seconds * 1000L);
        System.exit(0);
    }

    /** One that goes on as the same producer where it can, and as another one where it must. */
    static void writes(String topic, int partitions, int writer, Path folder) throws Exception {
        KafkaProducer<String, String> producer = producer("writer-" + writer, 60_000);
        try (var told = Files.newBufferedWriter(folder.resolve("told-" + writer))) {
            for (long number = 0; !Files.exists(folder.resolve("stop")); number++) {
                boolean commits = number % 4 != 3;
                String outcome;
                try {
                    producer.beginTransaction();
                    for (int part = 0; part < 4; part++) {
                        String value = writer + ":" + number + ":" + part;
                        producer.send(new ProducerRecord<>(topic, (int) ((number + part) % partitions), null, value));
                    }
                    if (commits) {
                        producer.commitTransaction();
                        outcome = "committed";
                    } else {
                        producer.flush();
                        producer.abortTransaction();
                        outcome = "aborted";
                    }
                } catch (org.apache.kafka.common.KafkaException cause) {
                    System.err.println(writer + ":" + number + ": " + cause);
                    outcome = "unknown";
                    producer.close(Duration.ZERO);
                    producer = producer("writer-" + writer, 60_000);
                }
                told.write(number + " " + outcome + "\n");
                told.flush();
                Thread.sleep(5);
            }
        }
        producer.close();
    }

    static void copies(String from, String to, int copier, Path folder) throws Exception {
        KafkaProducer<String, String> producer = null;
        KafkaConsumer<String, String> consumer = null;
        while (!Files.exists(folder.resolve("stop"))) {
            try {
                if (producer == null) {
                    producer = producer("copier-" + copier, 60_000);
                    consumer = consumer(true, "copiers");
                    consumer.subscribe(List.of(from));
                }
                var records = consumer.poll(Duration.ofMillis(200));
                if (records.isEmpty()) continue;
                producer.beginTransaction();
                Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
                for (ConsumerRecord<String, String> record : records) {
                    producer.send(new ProducerRecord<>(to, record.partition(), null, record.value()));
                    offsets.put(new TopicPartition(from, record.partition()), new OffsetAndMetadata(record.offset() + 1));
                }
                producer.sendOffsetsToTransaction(offsets, consumer.groupMetadata());
                producer.commitTransaction();
            } catch (org.apache.kafka.common.KafkaException cause) {
                System.err.println("copier " + copier + ": " + cause);
                if (producer != null) producer.close(Duration.ZERO);
                if (consumer != null) consumer.close();
                producer = null;
            }
        }
        if (producer != null) {
            producer.close();
            consumer.close();
        }
    }
}
