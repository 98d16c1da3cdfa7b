import java.io.BufferedWriter;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Properties;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * Producers.java BOOTSTRAP TOPIC PARTITIONS PRODUCERS RATE FOLDER: idempotent producers, as they are by default, each on a thread
 * of its own. Each sends records `producer:number`, RATE a second and to one partition after the other, until FOLDER has a file
 * `stop`. What each is told of its records is in FOLDER/told-PRODUCER: `number partition offset` or `number failure`.
 */
public class Producers {
    public static void main(String[] args) throws Exception {
        Thread[] threads = new Thread[Integer.parseInt(args[3])];
        for (int producer = 0; producer < threads.length; producer++) {
            int number = producer;
            threads[producer] = new Thread(() -> {
                try {
                    send(args, number);
                } catch (Throwable cause) {
                    cause.printStackTrace();
                    System.exit(1);
                }
            });
            threads[producer].start();
        }
        for (Thread thread : threads) thread.join();
    }

    static void send(String[] args, int producer) throws Exception {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", args[0]);
        properties.put("client.id", "producer-" + producer);
        // A batch is small, so that several are in flight; and nothing is given up before the test is.
        properties.put("batch.size", "2048");
        properties.put("linger.ms", "1");
        properties.put("delivery.timeout.ms", "600000");
        properties.put("max.block.ms", "600000");
        properties.put("request.timeout.ms", "10000");
        properties.put("reconnect.backoff.ms", "20");
        properties.put("reconnect.backoff.max.ms", "100");
        properties.put("retry.backoff.ms", "10");
        properties.put("retry.backoff.max.ms", "50");
        Path folder = Path.of(args[5]);
        int partitions = Integer.parseInt(args[2]);
        double rate = Double.parseDouble(args[4]);
        String padding = "x".repeat(200);
        StringSerializer text = new StringSerializer();
        try (BufferedWriter told = Files.newBufferedWriter(folder.resolve("told-" + producer))) {
            try (KafkaProducer<String, String> kafka = new KafkaProducer<>(properties, text, text)) {
                long begun = System.nanoTime();
                for (long number = 0; !Files.exists(folder.resolve("stop")); number++) {
                    long n = number;
                    String value = producer + ":" + n + ":" + padding;
                    kafka.send(new ProducerRecord<>(args[1], (int) (n % partitions), null, value), (metadata, cause) -> {
                        try {
                            String line = cause == null ? metadata.partition() + " " + metadata.offset() : cause.toString();
                            told.write(n + " " + line + "\n");
                        } catch (Exception failed) {
                            failed.printStackTrace();
                            System.exit(1);
                        }
                    });
                    long ahead = (long) (n / rate * 1e9) - (System.nanoTime() - begun);
                    if (ahead > 1_000_000) Thread.sleep(ahead / 1_000_000);
                }
            }
        }
    }
}
