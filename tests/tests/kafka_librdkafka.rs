//! librdkafka against the endpoint of the real daemon: a program in Python with its newest version, and kcat with an older one.
//!
//! Needs Python 3, and kcat or apt: see `services/clients.sh`.

#![allow(clippy::unwrap_used, reason = "tests are the outside")]

use aqueduct_tests::daemon::Daemon;
use aqueduct_tests::members;
use aqueduct_tests::services::KafkaClient::{Kcat, Librdkafka};

const PROGRAM: &str = env!("CARGO_BIN_EXE_aqueduct-with-faults");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_of_every_codec_come_back_with_all_that_they_carry() {
    let (_daemon, address) = Daemon::for_kafka_clients(PROGRAM, "").await;
    Librdkafka.run(&address, &["records"], "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offsets_topics_and_groups_are_asked_for_and_changed() {
    let (_daemon, address) = Daemon::for_kafka_clients(PROGRAM, "").await;
    for what in ["offsets", "admin", "groups"] {
        Librdkafka.run(&address, &[what], "");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_is_whole_or_not_there() {
    let (_daemon, address) = Daemon::for_kafka_clients(PROGRAM, "").await;
    Librdkafka.run(&address, &["transactions"], "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_members_that_come_and_go_read_every_record_by_range() {
    let (mut daemon, address) = Daemon::for_kafka_clients(PROGRAM, &members::topics()).await;
    members::come_and_go(&mut daemon, &address, Librdkafka, "range", &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_members_that_come_and_go_read_every_record_cooperatively() {
    let (mut daemon, address) = Daemon::for_kafka_clients(PROGRAM, &members::topics()).await;
    members::come_and_go(&mut daemon, &address, Librdkafka, "cooperative-sticky", &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_of_it_works_encrypted_for_a_user_with_a_password() {
    let (mut daemon, address) = Daemon::for_known_kafka_clients(PROGRAM, &members::topics()).await;
    let known = |password: &str| {
        let certificate = format!("ssl.ca.location={}", daemon.path("kafka.pem").display());
        let password = format!("sasl.password={password}");
        let how = ["security.protocol=sasl_ssl", "sasl.mechanism=SCRAM-SHA-512", "sasl.username=alice"];
        [&how.map(str::to_owned)[..], &[password, certificate]].concat()
    };
    let (known, wrong) = (known("alice-secret"), known("a-guess"));
    for what in ["records", "offsets", "admin", "groups", "transactions"] {
        let arguments = [&[what.to_owned()], &known[..]].concat();
        Librdkafka.run(&address, &arguments.iter().map(String::as_str).collect::<Vec<_>>(), "");
    }
    let settings = |all: &[String]| all.iter().flat_map(|it| ["-X".to_owned(), it.clone()]).collect::<Vec<_>>();
    let kcat = |all: &[String]| Kcat.at(&address).args(["-L", "-m", "5"]).args(settings(all)).output().unwrap();
    assert!(kcat(&known).status.success(), "{:?}", kcat(&known));
    assert!(!kcat(&wrong).status.success(), "a wrong password");
    assert!(!kcat(&[]).status.success(), "no encryption");
    members::come_and_go(&mut daemon, &address, Librdkafka, "cooperative-sticky", &known).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kcat_lists_writes_and_reads_also_in_a_group() {
    let (_daemon, address) = Daemon::for_kafka_clients(PROGRAM, "topics:\n  declared: { partitions: 3 }\n").await;
    let listed = Kcat.run(&address, &["-L"], "");
    assert!(listed.contains("topic \"declared\" with 3 partitions"), "{listed}");
    let lines: Vec<String> = (0..300).map(|number| format!("{}:line {number}", number % 7)).collect();
    let input = lines.join("\n") + "\n";
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        // Nobody made the topic: it is made when it is asked for.
        let topic = format!("kcat-{codec}");
        Kcat.run(&address, &["-P", "-t", &topic, "-z", codec, "-K:", "-X", "enable.idempotence=true"], &input);
        let read = Kcat.run(&address, &["-C", "-t", &topic, "-e", "-q", "-K:", "-X", "check.crcs=true"], "");
        assert_eq!(read.lines().collect::<Vec<_>>(), lines, "{codec}");
    }
    Kcat.run(&address, &["-P", "-t", "declared", "-K:", "-Z", "-H", "one=1", "-H", "two"], "a:1\nb:\nc:3\n");
    let format = "%k=%s %h\n";
    let read = |arguments: &[&str]| {
        let read = Kcat.run(&address, &[arguments, &["-e", "-q", "-Z", "-f", format]].concat(), "");
        let mut read: Vec<_> = read.lines().map(str::to_owned).collect();
        read.sort();
        read
    };
    let all = ["a=1 one=1,two=NULL", "b=NULL one=1,two=NULL", "c=3 one=1,two=NULL"];
    assert_eq!(read(&["-C", "-t", "declared"]), all);
    assert_eq!(read(&["-C", "-t", "kcat-none", "-o", "-1"]), [format!("{}=line 299 ", 299 % 7)], "the last one");
    let group = ["-X", "auto.offset.reset=earliest", "-G", "kcats", "declared"];
    assert_eq!(read(&group), all);
    Kcat.run(&address, &["-P", "-t", "declared", "-K:"], "d:4\n");
    assert_eq!(read(&group), ["d=4 "], "it resumes");
    let offset = Kcat.run(&address, &["-Q", "-t", "kcat-none:0:0"], "");
    assert!(offset.contains("kcat-none [0] offset 0"), "{offset}");
}
