package main

import (
	"context"
	"errors"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

func refused(what string, err, code error) {
	if !errors.Is(err, code) {
		fail("%s: %v, expected %v", what, err, code)
	}
}

// Topics are made, described, configured, grown and deleted; what is wrong is refused with Kafka's codes.
func admin(ctx context.Context, e endpoint) {
	client := e.client()
	defer client.Close()
	admin, topic := kadm.NewClient(client), "fz-admin"
	hour := "3600000"
	_, err := admin.CreateTopic(ctx, 2, 1, map[string]*string{"retention.ms": &hour}, topic)
	check(err)
	metadata, err := admin.Metadata(ctx, topic)
	check(err)
	same("brokers", metadata.Brokers.NodeIDs(), []int32{0})
	same("partitions", metadata.Topics[topic].Partitions.Numbers(), []int32{0, 1})
	if metadata.Cluster == "" || metadata.Topics[topic].ID == (kadm.TopicID{}) {
		fail("no id of cluster or topic: %+v", metadata)
	}
	config := func() map[string]string {
		described, err := admin.DescribeTopicConfigs(ctx, topic)
		check(err)
		found := map[string]string{}
		for _, setting := range described[0].Configs {
			found[setting.Key] = setting.MaybeValue()
		}
		return found
	}
	same("retention", config()["retention.ms"], hour)
	two, compact, soon := "2097152", "compact", "soon"
	changed, err := admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{
		{Op: kadm.SetConfig, Name: "max.message.bytes", Value: &two},
		{Op: kadm.SetConfig, Name: "cleanup.policy", Value: &compact},
		{Op: kadm.DeleteConfig, Name: "retention.ms"},
	}, topic)
	check(err)
	check(changed[0].Err)
	same("after a change", []string{config()["max.message.bytes"], config()["cleanup.policy"]}, []string{two, compact})
	wrong, err := admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Name: "retention.ms", Value: &soon}}, topic)
	check(err)
	refused("a time that is none", wrong[0].Err, kerr.InvalidConfig)
	grown, err := admin.UpdatePartitions(ctx, 5, topic)
	check(err)
	check(grown[topic].Err)
	listed, err := admin.ListTopics(ctx, topic)
	check(err)
	same("partitions", len(listed[topic].Partitions), 5)
	shrunk, err := admin.UpdatePartitions(ctx, 3, topic)
	check(err)
	refused("fewer partitions", shrunk[topic].Err, kerr.InvalidPartitions)
	create := func(name string, factor int16) error {
		_, err := admin.CreateTopic(ctx, 1, factor, nil, name)
		return err
	}
	refused("a second time", create(topic, 1), kerr.TopicAlreadyExists)
	refused("three replicas", create("fz-two", 3), kerr.InvalidReplicationFactor)
	for _, name := range []string{"../x", ".", "..", "a/b", "a\\b", "ü", "", strings.Repeat("x", 250)} {
		refused("the name "+name, create(name, 1), kerr.InvalidTopicException)
	}
	check(create("fz-"+strings.Repeat("x", 246), 1))
	nodes, err := admin.ListBrokers(ctx)
	check(err)
	same("nodes", len(nodes), 1)
	_, err = admin.DescribeBrokerConfigs(ctx, 0)
	check(err)
	deleted, err := admin.DeleteTopics(ctx, topic)
	check(err)
	check(deleted[topic].Err)
	deleted, err = admin.DeleteTopics(ctx, topic)
	check(err)
	refused("a topic that is not there", deleted[topic].Err, kerr.UnknownTopicOrPartition)
}

// A group commits, is listed, described, changed and deleted, and resumes where it committed.
func groups(ctx context.Context, e endpoint) {
	topic, group := "fz-groups", "fz-group"
	client := e.client(kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
	defer client.Close()
	admin := kadm.NewClient(client)
	create(ctx, client, topic, 2)
	var sent []*kgo.Record
	for number := 0; number < 20; number++ {
		sent = append(sent, &kgo.Record{Topic: topic, Value: []byte("x")})
	}
	check(client.ProduceSync(ctx, sent...).FirstErr())
	joined := func(more ...kgo.Opt) *kgo.Client {
		options := []kgo.Opt{kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit(), kgo.ClientID("first")}
		return e.client(append(options, more...)...)
	}
	first := joined(kgo.InstanceID("one"))
	half := read(ctx, first, 10)
	check(first.CommitRecords(ctx, half...))
	described, err := admin.DescribeGroups(ctx, group)
	check(err)
	check(described.Error())
	same("state", described[group].State, "Stable")
	same("members", len(described[group].Members), 1)
	member := described[group].Members[0]
	same("member", []string{member.ClientID, *member.InstanceID}, []string{"first", "one"})
	assigned, _ := member.Assigned.AsConsumer()
	same("assigned", len(assigned.Topics[0].Partitions), 2)
	deleted, err := admin.DeleteGroups(ctx, group)
	check(err)
	refused("a group with a member", deleted[group].Err, kerr.NonEmptyGroup)
	lags, err := admin.Lag(ctx, group)
	check(err)
	lag := lags[group]
	check(lag.Error())
	same("lag", lag.Lag.Total(), 10)
	first.Close()
	second := joined(kgo.InstanceID("one"))
	rest := read(ctx, second, 10)
	check(second.CommitRecords(ctx, rest...))
	second.Close()
	places := map[[2]int64]int{}
	for _, record := range append(half, rest...) {
		places[[2]int64{int64(record.Partition), record.Offset}]++
	}
	same("records that two members read, one after another", len(places), 20)
	left, err := admin.LeaveGroup(ctx, kadm.LeaveGroup(group).InstanceIDs("one"))
	check(err)
	check(left.Error())
	listed, err := admin.ListGroups(ctx)
	check(err)
	same("listed", listed[group].State, "Empty")
	moved := kadm.Offsets{}
	moved.AddOffset(topic, 0, 3, -1)
	committed, err := admin.CommitOffsets(ctx, group, moved)
	check(err)
	check(committed.Error())
	fetched, err := admin.FetchOffsets(ctx, group)
	check(err)
	found, _ := fetched.Lookup(topic, 0)
	same("an offset that was moved", found.At, 3)
	gone, err := admin.DeleteOffsets(ctx, group, kadm.TopicsSet{topic: {0: {}}})
	check(err)
	check(gone.Error())
	fetched, err = admin.FetchOffsets(ctx, group)
	check(err)
	_, exists := fetched.Lookup(topic, 0)
	same("an offset that was deleted", exists, false)
	deleted, err = admin.DeleteGroups(ctx, group)
	check(err)
	check(deleted[group].Err)
	deleted, err = admin.DeleteGroups(ctx, group)
	check(err)
	refused("a group that is not there", deleted[group].Err, kerr.GroupIDNotFound)
}
