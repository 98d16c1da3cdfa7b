package main

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// What the newest client would ask, and the endpoint does not know.
func versions(ctx context.Context, e endpoint) {
	client := e.client()
	defer client.Close()
	answer, err := kmsg.NewPtrApiVersionsRequest().RequestWith(ctx, client)
	check(err)
	answered := kversion.FromApiVersionsResponse(answer)
	kversion.Stable().EachMaxKeyVersion(func(key, newest int16) {
		known, knows := answered.LookupMaxKeyVersion(key)
		if !knows || known < newest {
			fmt.Println(kmsg.NameForKey(key), "newest", newest, "known", known, knows)
		}
	})
}

// Records of each codec come back as they went, by partition, with keys, headers, times and tombstones.
func records(ctx context.Context, e endpoint) {
	codecs := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
	for name, codec := range codecs {
		topic := "fz-records-" + name
		client := e.client(kgo.ProducerBatchCompression(codec), kgo.RecordPartitioner(kgo.ManualPartitioner()))
		create(ctx, client, topic, 3)
		var sent []*kgo.Record
		for number := 0; number < 300; number++ {
			record := &kgo.Record{
				Topic: topic, Partition: int32(number % 3), Timestamp: time.UnixMilli(1_700_000_000_000 + int64(number)),
				Value: []byte(fmt.Sprintf("value %d %s", number, strings.Repeat("x", 100))),
			}
			if number%5 != 0 {
				record.Key = []byte(fmt.Sprintf("key %d", number%7))
				if number%3 == 0 {
					record.Value = nil
				}
			}
			if number%2 == 1 {
				record.Headers = []kgo.RecordHeader{
					{Key: "n", Value: []byte(fmt.Sprint(number))}, {Key: "n", Value: []byte{}}, {Key: "nothing"},
				}
			}
			sent = append(sent, record)
		}
		check(client.ProduceSync(ctx, sent...).FirstErr())
		client.Close()
		for number, record := range sent {
			same("offset that the producer is told", record.Offset, number/3)
		}
		reader := e.from(topic, []int32{0, 1, 2}, kgo.NewOffset().AtStart())
		found := read(ctx, reader, 300)
		reader.Close()
		sort.Slice(found, func(a, b int) bool {
			return found[a].Offset*3+int64(found[a].Partition) < found[b].Offset*3+int64(found[b].Partition)
		})
		for number, record := range found {
			wanted := sent[number]
			shape := func(r *kgo.Record) string {
				nulls := []bool{r.Key == nil, r.Value == nil}
				return fmt.Sprintf("%v %q %q %v %q %v", nulls, r.Key, r.Value, r.Timestamp.UnixMilli(), r.Headers, r.Partition)
			}
			same("record", shape(record), shape(wanted))
		}
	}
}

// Offsets by time, the first, the last and the latest; a partition from its middle and from its end.
func offsets(ctx context.Context, e endpoint) {
	topic := "fz-offsets"
	client := e.client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	defer client.Close()
	create(ctx, client, topic, 2)
	for number := 0; number < 100; number += 10 {
		var sent []*kgo.Record
		for inner := number; inner < number+10; inner++ {
			at := time.UnixMilli(int64(1_000_000 + 1000*inner))
			sent = append(sent, &kgo.Record{Topic: topic, Value: []byte(fmt.Sprint(inner)), Timestamp: at})
		}
		check(client.ProduceSync(ctx, sent...).FirstErr())
	}
	admin := kadm.NewClient(client)
	at := func(listed kadm.ListedOffsets, err error) int64 {
		check(err)
		check(listed.Error())
		offset, _ := listed.Lookup(topic, 0)
		return offset.Offset
	}
	same("start", at(admin.ListStartOffsets(ctx, topic)), 0)
	same("end", at(admin.ListEndOffsets(ctx, topic)), 100)
	same("stable end", at(admin.ListCommittedOffsets(ctx, topic)), 100)
	same("latest time", at(admin.ListMaxTimestampOffsets(ctx, topic)), 99)
	for millis, expected := range map[int64]int64{0: 0, 1_000_000: 0, 1_000_001: 1, 1_050_000: 50, 1_099_000: 99, 1_099_001: 100} {
		same(fmt.Sprint("offset at ", millis), at(admin.ListOffsetsAfterMilli(ctx, millis, topic)), expected)
	}
	middle := e.from(topic, []int32{0}, kgo.NewOffset().At(90))
	same("from the middle", read(ctx, middle, 10)[0].Offset, 90)
	middle.Close()
	times := e.from(topic, []int32{0}, kgo.NewOffset().AfterMilli(1_095_000))
	same("from a time on", read(ctx, times, 5)[0].Offset, 95)
	times.Close()
	// Fetches of two partitions wait at the end without an answer, until something comes.
	end := e.from(topic, []int32{0, 1}, kgo.NewOffset().At(100), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	defer end.Close()
	time.AfterFunc(300*time.Millisecond, func() {
		check(client.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: []byte("later")}).FirstErr())
	})
	same("what comes later", string(read(ctx, end, 1)[0].Value), "later")
	past := e.from(topic, []int32{0}, kgo.NewOffset().At(1000), kgo.ConsumeResetOffset(kgo.NoResetOffset()))
	defer past.Close()
	failed := past.PollFetches(ctx).Errors()
	if len(failed) != 1 || !errors.Is(failed[0].Err, kerr.OffsetOutOfRange) {
		fail("past the end: %v", failed)
	}
	epochs, err := admin.OffsetForLeaderEpoch(ctx, func() (r kadm.OffsetForLeaderEpochRequest) { r.Add(topic, 0, 1<<20); return r }())
	check(err)
	for _, partition := range epochs[topic] {
		if partition.Err == nil && partition.EndOffset != -1 {
			fail("an epoch that is not there yet: %+v", partition)
		}
	}
}
