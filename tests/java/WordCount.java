import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.LongDeserializer;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.state.Stores;

/**
 * WordCount.java BOOTSTRAP FOLDER: Kafka Streams' word count, exactly once, from `lines` (4 partitions) to `counts` (2 partitions).
 * An idempotent producer writes lines until FOLDER has a file `stop`; a reader of what is committed sees each word's count rise by
 * one each time, and says in FOLDER/counted how many words it has seen. Ends well when all words of all lines are counted.
 */
public class WordCount {
    static final int RATE = 200;
    static final AtomicLong LINES = new AtomicLong();

    public static void main(String[] args) throws Exception {
        System.setProperty("org.slf4j.simpleLogger.defaultLogLevel", "warn");
        Path folder = Path.of(args[1]);
        KafkaStreams streams = streams(args[0], folder);
        streams.start();
        Thread writer = new Thread(() -> write(args[0], folder));
        writer.start();
        Map<String, Long> counts = new HashMap<>();
        long words = 0;
        try (KafkaConsumer<String, Long> consumer = new KafkaConsumer<>(reading(args[0]), new StringDeserializer(), new LongDeserializer())) {
            List<TopicPartition> partitions = List.of(new TopicPartition("counts", 0), new TopicPartition("counts", 1));
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            long ended = Long.MAX_VALUE;
            while (words < 3 * LINES.get() || writer.isAlive() || System.nanoTime() < ended) {
                for (ConsumerRecord<String, Long> record : consumer.poll(Duration.ofMillis(100))) {
                    long before = counts.getOrDefault(record.key(), 0L);
                    check(record.value() == before + 1, record.key() + " rises from " + before + " to " + record.value());
                    counts.put(record.key(), record.value());
                    words++;
                }
                Files.writeString(folder.resolve("counted"), Long.toString(words));
                // Whatever is counted twice comes within a while.
                if (words >= 3 * LINES.get() && !writer.isAlive() && ended == Long.MAX_VALUE) ended = System.nanoTime() + 2_000_000_000L;
            }
        }
        Map<String, Long> expected = new HashMap<>();
        for (long line = 0; line < LINES.get(); line++)
            for (String word : line(line).split(" ")) expected.merge(word, 1L, Long::sum);
        check(counts.equals(expected), counts + ", expected " + expected);
        streams.close(Duration.ofSeconds(20));
        System.out.println(words + " words of " + LINES.get() + " lines are counted once each");
        System.exit(0);
    }

    static String line(long number) {
        return (number % 2 == 0 ? "even" : "odd") + " seven" + number % 7 + " fifty" + number % 50;
    }

    static KafkaStreams streams(String bootstrap, Path folder) {
        StreamsBuilder builder = new StreamsBuilder();
        builder.stream("lines", Consumed.with(Serdes.String(), Serdes.String()))
            .flatMapValues(line -> Arrays.asList(line.split(" ")))
            .groupBy((key, word) -> word, Grouped.with(Serdes.String(), Serdes.String()))
            .count(Materialized.<String, Long>as(Stores.inMemoryKeyValueStore("words")).withKeySerde(Serdes.String()).withValueSerde(Serdes.Long()))
            .toStream()
            .to("counts", Produced.with(Serdes.String(), Serdes.Long()));
        Properties properties = new Properties();
        properties.put("bootstrap.servers", bootstrap);
        properties.put("application.id", "word-count");
        properties.put("processing.guarantee", "exactly_once_v2");
        properties.put("state.dir", folder.resolve("state").toString());
        properties.put("num.stream.threads", "2");
        properties.put("commit.interval.ms", "100");
        // Each word of each line is an update of its own.
        properties.put("statestore.cache.max.bytes", "0");
        // What a kill leaves open ends soon.
        properties.put("producer.transaction.timeout.ms", "10000");
        properties.put("reconnect.backoff.max.ms", "200");
        properties.put("main.consumer.auto.offset.reset", "earliest");
        properties.put("main.consumer.session.timeout.ms", "10000");
        KafkaStreams streams = new KafkaStreams(builder.build(), properties);
        streams.setUncaughtExceptionHandler(cause -> {
            cause.printStackTrace();
            return StreamThreadExceptionResponse.REPLACE_THREAD;
        });
        return streams;
    }

    static Properties reading(String bootstrap) {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", bootstrap);
        properties.put("isolation.level", "read_committed");
        properties.put("reconnect.backoff.max.ms", "200");
        return properties;
    }

    static void write(String bootstrap, Path folder) {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", bootstrap);
        properties.put("linger.ms", "5");
        properties.put("delivery.timeout.ms", "600000");
        properties.put("max.block.ms", "600000");
        properties.put("request.timeout.ms", "10000");
        properties.put("reconnect.backoff.max.ms", "200");
        try (KafkaProducer<String, String> producer = new KafkaProducer<>(properties, new StringSerializer(), new StringSerializer())) {
            for (long number = 0; !Files.exists(folder.resolve("stop")); number++) {
                LINES.incrementAndGet();
                producer.send(new ProducerRecord<>("lines", (int) (number % 4), null, line(number)), (metadata, cause) -> {
                    if (cause != null) {
                        cause.printStackTrace();
                        System.exit(1);
                    }
                });
                Thread.sleep(1000 / RATE);
            }
        } catch (InterruptedException cause) {
            throw new IllegalStateException(cause);
        }
    }

    static void check(boolean holds, String what) {
        if (!holds) {
            System.err.println(what);
            System.exit(1);
        }
    }
}
