// franz-go against an endpoint for Kafka clients.
//
//	franz BOOTSTRAP WHAT [NAME=VALUE ...]
//
// WHAT is in the table in main: each fails where an answer is not what Kafka's would be. Names: tls (a file with the
// authority's certificate), user and password (SCRAM-SHA-512), and those that a WHAT reads.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

const patience = 60 * time.Second

// Clients of one endpoint, and what was said of them.
type endpoint struct {
	bootstrap string
	said      map[string]string
}

func main() {
	what := map[string]func(context.Context, endpoint){
		"versions":     versions,
		"records":      records,
		"offsets":      offsets,
		"admin":        admin,
		"groups":       groups,
		"produce":      produce,
		"member":       member,
		"transactions": transactions,
	}
	said := map[string]string{}
	for _, pair := range os.Args[3:] {
		name, value, _ := strings.Cut(pair, "=")
		said[name] = value
	}
	run, known := what[os.Args[2]]
	if !known {
		fail("unknown: %s", os.Args[2])
	}
	run(context.Background(), endpoint{os.Args[1], said})
}

func (e endpoint) client(more ...kgo.Opt) *kgo.Client {
	client, err := kgo.NewClient(e.options(more...)...)
	check(err)
	return client
}

func (e endpoint) options(more ...kgo.Opt) []kgo.Opt {
	options := []kgo.Opt{kgo.SeedBrokers(e.bootstrap)}
	if file := e.said["tls"]; file != "" {
		authorities := x509.NewCertPool()
		certificate, err := os.ReadFile(file)
		check(err)
		if !authorities.AppendCertsFromPEM(certificate) {
			fail("no certificate in %s", file)
		}
		options = append(options, kgo.DialTLSConfig(&tls.Config{RootCAs: authorities}))
	}
	if user := e.said["user"]; user != "" {
		options = append(options, kgo.SASL(scram.Auth{User: user, Pass: e.said["password"]}.AsSha512Mechanism()))
	}
	return append(options, more...)
}

// Makes a topic.
func create(ctx context.Context, client *kgo.Client, topic string, partitions int32) {
	_, err := kadm.NewClient(client).CreateTopic(ctx, partitions, 1, nil, topic)
	check(err)
}

// So many records, and not one that is an error.
func read(ctx context.Context, client *kgo.Client, count int) []*kgo.Record {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var found []*kgo.Record
	for len(found) < count {
		fetches := client.PollRecords(ctx, count-len(found))
		for _, failed := range fetches.Errors() {
			fail("%d of %d records come: %v", len(found), count, failed)
		}
		found = append(found, fetches.Records()...)
	}
	return found
}

// A client of one topic's partitions, from an offset on.
func (e endpoint) from(topic string, partitions []int32, offset kgo.Offset, more ...kgo.Opt) *kgo.Client {
	places := map[int32]kgo.Offset{}
	for _, partition := range partitions {
		places[partition] = offset
	}
	wanted := kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: places})
	return e.client(append([]kgo.Opt{wanted}, more...)...)
}

func wait(what string, holds func() bool) {
	begun := time.Now()
	for !holds() {
		if time.Since(begun) > patience {
			fail("not after %v: %s", patience, what)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func fail(what string, arguments ...any) {
	fmt.Fprintf(os.Stderr, what+"\n", arguments...)
	os.Exit(1)
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func same(what string, found, expected any) {
	if f, e := fmt.Sprintf("%v", found), fmt.Sprintf("%v", expected); f != e {
		panic(fmt.Sprintf("%s: %s, expected %s", what, f, e))
	}
}
