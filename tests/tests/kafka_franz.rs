//! franz-go against the endpoint of the real daemon.
//!
//! Needs Go of at least 1.21, see `services/clients.sh`.

#![allow(clippy::unwrap_used, reason = "tests are the outside")]

use aqueduct_tests::daemon::Daemon;
use aqueduct_tests::members;
use aqueduct_tests::services::KafkaClient::Franz;

const PROGRAM: &str = env!("CARGO_BIN_EXE_aqueduct-with-faults");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_of_every_codec_come_back_with_all_that_they_carry() {
    let (_daemon, address) = Daemon::for_kafka_clients(PROGRAM, "").await;
    Franz.run(&address, &["records"], "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offsets_topics_and_groups_are_asked_for_and_changed() {
    let (_daemon, address) = Daemon::for_kafka_clients(PROGRAM, "").await;
    for what in ["offsets", "admin", "groups"] {
        Franz.run(&address, &[what], "");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_is_whole_or_not_there() {
    let (_daemon, address) = Daemon::for_kafka_clients(PROGRAM, "").await;
    Franz.run(&address, &["transactions"], "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_members_that_come_and_go_read_every_record_by_range() {
    let (mut daemon, address) = Daemon::for_kafka_clients(PROGRAM, &members::topics()).await;
    members::come_and_go(&mut daemon, &address, Franz, "range", &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_members_that_come_and_go_read_every_record_cooperatively() {
    let (mut daemon, address) = Daemon::for_kafka_clients(PROGRAM, &members::topics()).await;
    members::come_and_go(&mut daemon, &address, Franz, "cooperative-sticky", &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_of_it_works_encrypted_for_a_user_with_a_password() {
    let (mut daemon, address) = Daemon::for_known_kafka_clients(PROGRAM, &members::topics()).await;
    let certificate = format!("tls={}", daemon.path("kafka.pem").display());
    let known = [certificate, "user=alice".to_owned(), "password=alice-secret".to_owned()];
    for what in ["records", "offsets", "admin", "groups", "transactions"] {
        let arguments = [&[what.to_owned()], &known[..]].concat();
        Franz.run(&address, &arguments.iter().map(String::as_str).collect::<Vec<_>>(), "");
    }
    members::come_and_go(&mut daemon, &address, Franz, "cooperative-sticky", &known).await;
}
