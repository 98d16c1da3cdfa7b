"""librdkafka, by Confluent's Python client, against an endpoint for Kafka clients.

    librdkafka.py BOOTSTRAP WHAT [NAME=VALUE ...]

WHAT is a function of this file whose name is in the table at its end: each fails where an answer is not what Kafka's would be.
`member` and the like take their arguments as NAME=VALUE too; a name with a dot in it is a setting of the client. Python of
`services/readers.sh serializers`.
"""

import signal
import sys
import time

from confluent_kafka import (
    Consumer, IsolationLevel, KafkaError, KafkaException, OFFSET_BEGINNING, OFFSET_END, Producer, TopicCollection, TopicPartition,
    ConsumerGroupTopicPartitions, ConsumerGroupState,
)
from confluent_kafka.admin import (
    AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, NewTopic, OffsetSpec, ResourceType,
)

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
PATIENCE = 60


class Client:
    """Makes clients of one endpoint."""

    def __init__(self, bootstrap, settings):
        self.settings = {"bootstrap.servers": bootstrap, **settings}
        # What it is asked for comes later, so it has to outlive the question.
        self.admin = AdminClient(self.settings)

    def producer(self, **more):
        return Producer({**self.settings, **dotted(more)})

    def consumer(self, group, **more):
        base = {"group.id": group, "auto.offset.reset": "earliest", "enable.auto.commit": False}
        return Consumer({**self.settings, **base, **dotted(more)})


def dotted(settings):
    return {name.replace("_", "."): value for name, value in settings.items()}


def same(found, expected, what):
    assert found == expected, f"{what}: {found!r}, expected {expected!r}"


def refused(code, future, what):
    """What is asked for is refused, with Kafka's code."""
    try:
        found = future.result(PATIENCE)
    except KafkaException as cause:
        same(cause.args[0].code(), code, what)
        return
    raise AssertionError(f"{what} is not refused: {found}")


def wait(what, holds):
    begun = time.monotonic()
    while not holds():
        assert time.monotonic() - begun < PATIENCE, f"not after {PATIENCE} s: {what}"
        time.sleep(0.1)


def read(consumer, count):
    """So many records, and not one that is an error."""
    records = []
    begun = time.monotonic()
    while len(records) < count:
        assert time.monotonic() - begun < PATIENCE, f"{len(records)} of {count} records come"
        for record in consumer.consume(count - len(records), 1):
            assert record.error() is None, record.error()
            records.append(record)
    return records


def assigned(client, topic, partitions, offset=OFFSET_BEGINNING, **more):
    consumer = client.consumer("nobody", **more)
    consumer.assign([TopicPartition(topic, partition, offset) for partition in partitions])
    return consumer


def create(client, topic, partitions, **config):
    future = client.admin.create_topics([NewTopic(topic, partitions, 1, config=config)])[topic]
    future.result(PATIENCE)


def records(client):
    """Records of each codec come back as they went, by partition, with keys, headers, times and tombstones."""
    for codec in CODECS:
        topic = f"rd-records-{codec}"
        create(client, topic, 3)
        told = []
        # A batch holds many records, so that compressing is worth it.
        producer = client.producer(compression_type=codec, enable_idempotence=codec == "zstd", linger_ms=50)
        for number in range(300):
            key = None if number % 5 == 0 else f"key {number % 7}".encode()
            value = None if key and number % 3 == 0 else (b"value %d " % number) + b"x" * 100
            headers = [("n", str(number).encode()), ("n", b""), ("nothing", None)] if number % 2 else None
            producer.produce(
                topic, value, key, number % 3, timestamp=1_700_000_000_000 + number, headers=headers,
                on_delivery=lambda cause, record: told.append((cause, record.partition(), record.offset())),
            )
            producer.poll(0)
        same(producer.flush(PATIENCE), 0, "records left")
        same(sorted(told), [(None, p, offset) for p in range(3) for offset in range(100)], "what the producer is told")
        found = read(assigned(client, topic, range(3), check_crcs="true"), 300)
        for partition in range(3):
            mine = [record for record in found if record.partition() == partition]
            for offset, record in enumerate(mine):
                number = 3 * offset + partition
                same(record.offset(), offset, "offset")
                same(record.timestamp(), (1, 1_700_000_000_000 + number), "time")
                same(record.key(), None if number % 5 == 0 else f"key {number % 7}".encode(), "key")
                is_tombstone = record.key() is not None and number % 3 == 0
                same(record.value(), None if is_tombstone else (b"value %d " % number) + b"x" * 100, "value")
                headers = [("n", str(number).encode()), ("n", b""), ("nothing", None)] if number % 2 else None
                same(record.headers(), headers, "headers")


def offsets(client):
    """Offsets by time, the first, the last and the latest; a partition from its middle and from its end."""
    topic = "rd-offsets"
    create(client, topic, 2)
    producer = client.producer()
    for number in range(100):
        producer.produce(topic, b"%d" % number, partition=0, timestamp=1_000_000 + 1000 * number)
        if number % 10 == 9:
            producer.flush(PATIENCE)
    consumer = client.consumer("nobody")
    same(consumer.get_watermark_offsets(TopicPartition(topic, 0), PATIENCE), (0, 100), "watermarks")
    same(consumer.get_watermark_offsets(TopicPartition(topic, 1), PATIENCE), (0, 0), "watermarks of an empty partition")
    for at, expected in [(0, 0), (1_000_000, 0), (1_000_001, 1), (1_050_000, 50), (1_099_000, 99), (1_099_001, -1)]:
        [found] = consumer.offsets_for_times([TopicPartition(topic, 0, at)], PATIENCE)
        same(found.offset, expected if expected >= 0 else OFFSET_END, f"offset at {at}")
    partition = TopicPartition(topic, 0)
    for spec, expected in [(OffsetSpec.earliest(), 0), (OffsetSpec.latest(), 100), (OffsetSpec.max_timestamp(), 99)]:
        for isolation in [IsolationLevel.READ_UNCOMMITTED, IsolationLevel.READ_COMMITTED]:
            future = client.admin.list_offsets({partition: spec}, isolation_level=isolation)[partition]
            same(future.result(PATIENCE).offset, expected, f"{spec} {isolation}")
    same([record.offset() for record in read(assigned(client, topic, [0], 90), 10)], list(range(90, 100)), "from the middle")
    consumer = assigned(client, topic, [0], OFFSET_END, enable_partition_eof=True)
    end = consumer.poll(PATIENCE)
    same(end.error().code(), KafkaError._PARTITION_EOF, "at the end")
    producer.produce(topic, b"later", partition=0)
    producer.flush(PATIENCE)
    same(read(consumer, 1)[0].value(), b"later", "what comes later")
    consumer = assigned(client, topic, [0], 1000, auto_offset_reset="error")
    same(consumer.poll(PATIENCE).error().code(), KafkaError._AUTO_OFFSET_RESET, "past the end")


def admin(client):
    """Topics are made, described, configured, grown and deleted; what is wrong is refused with Kafka's codes."""
    admin, topic = client.admin, "rd-admin"
    create(client, topic, 2, **{"retention.ms": "3600000"})
    metadata = admin.list_topics(timeout=PATIENCE)
    same(list(metadata.brokers), [0], "brokers")
    same(sorted(metadata.topics[topic].partitions), [0, 1], "partitions")
    same([p.leader for p in metadata.topics[topic].partitions.values()], [0, 0], "leaders")
    assert metadata.cluster_id, "a cluster has an id"
    cluster = admin.describe_cluster().result(PATIENCE)
    same((cluster.cluster_id, [node.id for node in cluster.nodes]), (metadata.cluster_id, [0]), "cluster")
    described = admin.describe_topics(TopicCollection([topic]))[topic].result(PATIENCE)
    same((described.name, len(described.partitions)), (topic, 2), "description")
    resource = ConfigResource(ResourceType.TOPIC, topic)

    def config():
        return {name: entry.value for name, entry in admin.describe_configs([resource])[resource].result(PATIENCE).items()}

    same(config()["retention.ms"], "3600000", "retention")
    changes = [
        ConfigEntry("max.message.bytes", "2097152", incremental_operation=AlterConfigOpType.SET),
        ConfigEntry("cleanup.policy", "compact", incremental_operation=AlterConfigOpType.SET),
        ConfigEntry("retention.ms", None, incremental_operation=AlterConfigOpType.DELETE),
    ]
    admin.incremental_alter_configs([ConfigResource(ResourceType.TOPIC, topic, incremental_configs=changes)])[resource].result(PATIENCE)
    found = config()
    same((found["max.message.bytes"], found["cleanup.policy"]), ("2097152", "compact"), "after a change")
    assert found["retention.ms"] != "3600000", "the default holds again"
    wrong = [ConfigEntry("retention.ms", "soon", incremental_operation=AlterConfigOpType.SET)]
    wrong = admin.incremental_alter_configs([ConfigResource(ResourceType.TOPIC, topic, incremental_configs=wrong)])[resource]
    refused(KafkaError.INVALID_CONFIG, wrong, "a time that is none")
    admin.create_partitions([NewPartitions(topic, 5)])[topic].result(PATIENCE)
    wait("five partitions", lambda: len(admin.list_topics(topic, PATIENCE).topics[topic].partitions) == 5)
    refused(KafkaError.INVALID_PARTITIONS, admin.create_partitions([NewPartitions(topic, 3)])[topic], "fewer partitions")
    cases = [
        (KafkaError.TOPIC_ALREADY_EXISTS, NewTopic(topic, 1, 1)),
        (KafkaError.INVALID_REPLICATION_FACTOR, NewTopic("rd-two", 1, 3)),
        (KafkaError.TOPIC_EXCEPTION, NewTopic("../rd-two", 1, 1)),
        (KafkaError.TOPIC_EXCEPTION, NewTopic("x" * 250, 1, 1)),
        (KafkaError.INVALID_CONFIG, NewTopic("rd-two", 1, 1, config={"cleanup.policy": "burn"})),
    ]
    for code, wanted in cases:
        refused(code, admin.create_topics([wanted])[wanted.topic], wanted.topic)
    admin.create_topics([NewTopic("rd-three", 1, 1)], validate_only=True)["rd-three"].result(PATIENCE)
    assert "rd-three" not in admin.list_topics(timeout=PATIENCE).topics, "it was validated alone"
    admin.delete_topics([topic])[topic].result(PATIENCE)
    wait("it is gone", lambda: topic not in admin.list_topics(timeout=PATIENCE).topics)
    refused(KafkaError.UNKNOWN_TOPIC_OR_PART, admin.delete_topics([topic])[topic], "a topic that is not there")


def groups(client):
    """A group commits, is listed, described, changed and deleted, and resumes where it committed."""
    topic, group = "rd-groups", "rd-group"
    create(client, topic, 2)
    producer = client.producer()
    for number in range(20):
        producer.produce(topic, b"%d" % number, partition=number % 2)
    same(producer.flush(PATIENCE), 0, "records left")
    first = client.consumer(group, client_id="first", group_instance_id="one")
    first.subscribe([topic])
    half = read(first, 10)
    first.commit(asynchronous=False)
    admin = client.admin
    listed = admin.list_consumer_groups(states={ConsumerGroupState.STABLE}).result(PATIENCE)
    same([g.group_id for g in listed.valid], [group], "groups that are stable")
    described = admin.describe_consumer_groups([group])[group].result(PATIENCE)
    [member] = described.members
    same((described.state, member.client_id, member.group_instance_id), (ConsumerGroupState.STABLE, "first", "one"), "group")
    same(len(member.assignment.topic_partitions), 2, "its partitions")
    refused(KafkaError.NON_EMPTY_GROUP, admin.delete_consumer_groups([group])[group], "a group with a member")
    first.close()
    second = client.consumer(group, group_instance_id="one")
    second.subscribe([topic])
    rest = read(second, 10)
    places = sorted((record.partition(), record.offset()) for record in half + rest)
    same(places, [(p, offset) for p in range(2) for offset in range(10)], "each record once, by two members after another")
    second.commit(asynchronous=False)
    second.close()
    # A static member's leaving is not told: its session has to end, so its group is asked for by another.
    other = client.consumer("rd-other")
    other.subscribe([topic])
    read(other, 20)
    other.commit(offsets=[TopicPartition(topic, 0, 7, "a note"), TopicPartition(topic, 1, 8)], asynchronous=False)
    other.close()
    wanted = ConsumerGroupTopicPartitions("rd-other")
    found = admin.list_consumer_group_offsets([wanted])["rd-other"].result(PATIENCE).topic_partitions
    same(sorted((p.partition, p.offset, p.metadata) for p in found), [(0, 7, "a note"), (1, 8, None)], "offsets")
    moved = ConsumerGroupTopicPartitions("rd-other", [TopicPartition(topic, 0, 3)])
    admin.alter_consumer_group_offsets([moved])["rd-other"].result(PATIENCE)
    third = client.consumer("rd-other")
    committed = third.committed([TopicPartition(topic, p) for p in range(2)], PATIENCE)
    same([p.offset for p in committed], [3, 8], "offsets that were moved")
    third.close()
    admin.delete_consumer_groups(["rd-other"])["rd-other"].result(PATIENCE)
    refused(KafkaError.GROUP_ID_NOT_FOUND, admin.delete_consumer_groups(["rd-other"])["rd-other"], "a group that is not there")


def produce(client, topic, first, last):
    """Numbers in a topic, by key."""
    producer = client.producer(enable_idempotence=True, linger_ms=5)
    told = []
    for number in range(int(first), int(last)):
        producer.produce(topic, b"%d" % number, b"%d" % number, on_delivery=lambda cause, record: told.append(cause))
        producer.poll(0)
    same(producer.flush(PATIENCE), 0, "records left")
    same(set(told), {None}, "failures")


def member(client, topic, group, strategy):
    """One of a group: says what it is given and reads, until it is told to stop."""
    consumer = client.consumer(group, partition_assignment_strategy=strategy, session_timeout_ms=6000)

    def partitions(given):
        return " ".join(sorted(str(p.partition) for p in given))

    def given(consumer, partitions_given):
        print("given", partitions(partitions_given), flush=True)

    def taken(consumer, partitions_taken):
        # What was read is committed before somebody else reads on.
        try:
            consumer.commit(asynchronous=False)
        except KafkaException as cause:
            if cause.args[0].code() != KafkaError._NO_OFFSET:
                print("uncommitted", cause, file=sys.stderr, flush=True)
        print("taken", partitions(partitions_taken), flush=True)

    is_over = []
    signal.signal(signal.SIGTERM, lambda *_: is_over.append(True))
    consumer.subscribe([topic], on_assign=given, on_revoke=taken)
    while not is_over:
        for record in consumer.consume(100, 0.1):
            if record.error() is not None:
                print("error", record.error(), file=sys.stderr, flush=True)
                continue
            print("read", record.partition(), record.offset(), record.value().decode(), flush=True)
        try:
            consumer.commit(asynchronous=False)
        except KafkaException as cause:
            if cause.args[0].code() != KafkaError._NO_OFFSET:
                print("uncommitted", cause, file=sys.stderr, flush=True)
    consumer.close()


def transactions(client):
    """A transaction is whole or not there, its offsets with it, and its producer is fenced by the next of its name."""
    source, sink, group = "rd-source", "rd-sink", "rd-transactions"
    create(client, source, 1)
    create(client, sink, 2)
    produce(client, source, 0, 100)
    old = client.producer(transactional_id="rd-t")
    old.init_transactions(PATIENCE)
    consumer = client.consumer(group, isolation_level="read_committed")
    consumer.subscribe([source])
    taken = 0
    while taken < 100:
        # Every other transaction is given up, and what it read is read again.
        for ends_well in [False, True]:
            old.begin_transaction()
            batch = read(consumer, 10)
            for record in batch:
                old.produce(sink, record.value(), record.key(), record.offset() % 2)
            old.flush(PATIENCE)
            position = consumer.position(consumer.assignment())
            old.send_offsets_to_transaction(position, consumer.consumer_group_metadata(), PATIENCE)
            if ends_well:
                old.commit_transaction(PATIENCE)
                taken += len(batch)
            else:
                old.abort_transaction(PATIENCE)
                consumer.seek(TopicPartition(source, 0, batch[0].offset()))
    same(consumer.committed([TopicPartition(source, 0)], PATIENCE)[0].offset, 100, "offsets come with the records")
    consumer.close()
    old.begin_transaction()
    old.produce(sink, b"open", partition=0)
    old.flush(PATIENCE)
    committed = read(assigned(client, sink, range(2), isolation_level="read_committed"), 100)
    same(sorted(int(record.value()) for record in committed), list(range(100)), "each record once")
    everything = read(assigned(client, sink, range(2), isolation_level="read_uncommitted"), 201)
    same(len(everything), 201, "those that were given up are there too")
    new = client.producer(transactional_id="rd-t")
    new.init_transactions(PATIENCE)
    try:
        old.produce(sink, b"late", partition=1)
        old.commit_transaction(PATIENCE)
        raise AssertionError("the old producer is not fenced")
    except KafkaException as cause:
        assert cause.args[0].code() in (KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH), cause
    new.begin_transaction()
    new.produce(sink, b"last", partition=0)
    new.commit_transaction(PATIENCE)
    values = [record.value() for record in read(assigned(client, sink, [0], isolation_level="read_committed"), 51)]
    same(values[-1], b"last", "what was open is not seen")


WHAT = {f.__name__: f for f in [records, offsets, admin, groups, produce, member, transactions]}

if __name__ == "__main__":
    bootstrap, what, *rest = sys.argv[1:]
    rest = [pair.split("=", 1) for pair in rest]
    settings = {name: value for name, value in rest if "." in name}
    WHAT[what](Client(bootstrap, settings), **{name: value for name, value in rest if "." not in name})
