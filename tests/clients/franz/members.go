package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"sort"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Numbers in a topic, by key.
func produce(ctx context.Context, e endpoint) {
	first, err := strconv.Atoi(e.said["first"])
	check(err)
	last, err := strconv.Atoi(e.said["last"])
	check(err)
	client := e.client()
	defer client.Close()
	var sent []*kgo.Record
	for number := first; number < last; number++ {
		text := []byte(fmt.Sprint(number))
		sent = append(sent, &kgo.Record{Topic: e.said["topic"], Key: text, Value: text})
	}
	check(client.ProduceSync(ctx, sent...).FirstErr())
}

// One of a group: says what it is given and reads, until it is told to stop.
func member(ctx context.Context, e endpoint) {
	balancer := map[string]kgo.GroupBalancer{"range": kgo.RangeBalancer(), "cooperative-sticky": kgo.CooperativeStickyBalancer()}
	ctx, over := signal.NotifyContext(ctx, syscall.SIGTERM)
	defer over()
	var output sync.Mutex
	say := func(what string) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(ctx context.Context, client *kgo.Client, topics map[string][]int32) {
			if what == "taken" {
				// What was read is committed before somebody else reads on.
				if err := client.CommitMarkedOffsets(context.Background()); err != nil {
					fmt.Fprintln(os.Stderr, "uncommitted", err)
				}
			}
			var numbers []string
			for _, partitions := range topics {
				for _, partition := range partitions {
					numbers = append(numbers, fmt.Sprint(partition))
				}
			}
			sort.Strings(numbers)
			output.Lock()
			defer output.Unlock()
			fmt.Println(what, strings.Join(numbers, " "))
		}
	}
	client := e.client(
		kgo.ConsumerGroup(e.said["group"]), kgo.ConsumeTopics(e.said["topic"]), kgo.Balancers(balancer[e.said["strategy"]]),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.SessionTimeout(6*time.Second), kgo.AutoCommitMarks(), kgo.AutoCommitInterval(100*time.Millisecond),
		kgo.OnPartitionsAssigned(say("given")), kgo.OnPartitionsRevoked(say("taken")), kgo.OnPartitionsLost(say("lost")),
		kgo.BlockRebalanceOnPoll(),
	)
	for ctx.Err() == nil {
		fetches := client.PollRecords(ctx, 100)
		fetches.EachError(func(topic string, partition int32, err error) {
			if ctx.Err() == nil {
				fmt.Fprintln(os.Stderr, "error", topic, partition, err)
			}
		})
		output.Lock()
		for _, record := range fetches.Records() {
			fmt.Println("read", record.Partition, record.Offset, string(record.Value))
		}
		output.Unlock()
		client.MarkCommitRecords(fetches.Records()...)
		client.AllowRebalance()
	}
	client.CloseAllowingRebalance()
}

// Each record of one topic goes to another once, its group's offset with it, also where transactions are given up; the next
// producer of a name fences the one before.
func transactions(ctx context.Context, e endpoint) {
	source, sink, group := "fz-source", "fz-sink", "fz-transactions"
	client := e.client()
	create(ctx, client, source, 2)
	create(ctx, client, sink, 2)
	client.Close()
	e.said["topic"], e.said["first"], e.said["last"] = source, "0", "200"
	produce(ctx, e)
	session, err := kgo.NewGroupTransactSession(e.options(
		kgo.TransactionalID("fz-eos"), kgo.ConsumerGroup(group), kgo.ConsumeTopics(source), kgo.DefaultProduceTopic(sink),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.RequireStableFetchOffsets(),
	)...)
	check(err)
	for taken, round := 0, 0; taken < 200; round++ {
		within, cancel := context.WithTimeout(ctx, patience)
		fetches := session.PollRecords(within, 20)
		cancel()
		check(fetches.Err())
		check(session.Begin())
		fetches.EachRecord(func(record *kgo.Record) {
			session.Produce(ctx, &kgo.Record{Key: record.Key, Value: record.Value}, nil)
		})
		committed, err := session.End(ctx, kgo.TransactionEndTry(round%3 != 1))
		check(err)
		same("committed", committed, round%3 != 1)
		if committed {
			taken += fetches.NumRecords()
		}
	}
	session.Close()
	producer := func() *kgo.Client {
		return e.client(kgo.TransactionalID("fz-t"), kgo.DefaultProduceTopic(sink), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
	}
	old := producer()
	check(old.BeginTransaction())
	check(old.ProduceSync(ctx, kgo.StringRecord("open")).FirstErr())
	both := []int32{0, 1}
	committed := e.from(sink, both, kgo.NewOffset().AtStart(), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	defer committed.Close()
	numbers := map[string]int{}
	for _, record := range read(ctx, committed, 200) {
		numbers[string(record.Value)]++
	}
	same("different numbers", len(numbers), 200)
	young := producer()
	check(young.BeginTransaction())
	check(young.ProduceSync(ctx, kgo.StringRecord("last")).FirstErr())
	if err := old.EndTransaction(ctx, kgo.TryCommit); err == nil {
		fail("the old producer is not fenced")
	}
	old.Close()
	check(young.EndTransaction(ctx, kgo.TryCommit))
	young.Close()
	same("what comes after what was open", string(read(ctx, committed, 1)[0].Value), "last")
}
