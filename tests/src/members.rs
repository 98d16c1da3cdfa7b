//! Groups of Kafka clients that share partitions: what each member says of itself, and what all of them must have read.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::daemon::Daemon;
use crate::services::KafkaClient;

const TOPIC: &str = "orders";
const PARTITIONS: i64 = 8;

/// A member of a group, killed when dropped. It prints `given P…`, `taken P…` and `read PARTITION OFFSET VALUE`.
struct Member {
    child: Child,
    told: PathBuf,
}

impl Member {
    fn told(&self) -> Vec<Vec<String>> {
        let told = fs::read_to_string(&self.told).unwrap();
        // The last line may be there in part.
        let whole = &told[..told.rfind('\n').map_or(0, |end| end + 1)];
        whole.lines().map(|line| line.split(' ').map(str::to_owned).collect()).collect()
    }

    /// How many partitions it has.
    fn has(&self) -> i64 {
        let words = |line: &[String]| line[1..].iter().filter(|word| !word.is_empty()).count() as i64;
        let change = |line: Vec<String>| match line[0].as_str() {
            "given" => words(&line),
            "taken" | "lost" => -words(&line),
            _ => 0,
        };
        self.told().into_iter().map(change).sum()
    }

    fn end(&mut self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!(
                "--- {}:\n{}",
                self.told.display(),
                fs::read_to_string(self.told.with_extension("log")).unwrap_or_default()
            );
        }
    }
}

/// A group of a kind of client at an endpoint, with a topic of its own daemon: [`topics`] declares it.
struct Group<'a> {
    client: KafkaClient,
    strategy: &'a str,
    /// What every client is told besides.
    more: &'a [String],
    address: &'a str,
    folder: PathBuf,
}

/// What the daemon of a group must declare.
pub fn topics() -> String {
    format!("topics:\n  {TOPIC}: {{ partitions: {PARTITIONS} }}\n")
}

impl Group<'_> {
    fn produce(&self, first: u32, last: u32) {
        let (first, last) = (format!("first={first}"), format!("last={last}"));
        self.run("produce", &[&format!("topic={TOPIC}"), &first, &last]);
    }

    fn run(&self, what: &str, arguments: &[&str]) {
        let more: Vec<&str> = self.more.iter().map(String::as_str).collect();
        self.client.run(self.address, &[&[what], arguments, &more].concat(), "");
    }

    fn member(&self, name: &str) -> Member {
        let told = self.folder.join(format!("{name}.txt"));
        let errors = File::create(self.folder.join(format!("{name}.log"))).unwrap();
        let mut command = self.client.at(self.address);
        command.args(["member", &format!("topic={TOPIC}"), "group=workers", &format!("strategy={}", self.strategy)]);
        command.args(self.more).stdin(Stdio::null()).stdout(File::create(&told).unwrap()).stderr(errors);
        Member { child: command.spawn().unwrap(), told }
    }
}

async fn share(daemon: &Daemon, members: &[&Member], counts: &[i64]) {
    let have = || {
        let mut have: Vec<i64> = members.iter().map(|member| member.has()).collect();
        have.sort_unstable();
        have
    };
    daemon.until(&format!("members have {counts:?} partitions"), async |_| have() == counts).await;
}

/// Every offset that somebody read, by partition; the test fails where one was read with two values.
fn places(members: &[Member]) -> BTreeMap<(i64, i64), String> {
    let mut places = BTreeMap::new();
    for line in members.iter().flat_map(Member::told).filter(|line| line[0] == "read") {
        let place = (line[1].parse().unwrap(), line[2].parse().unwrap());
        let before = places.insert(place, line[3].clone());
        assert!(before.is_none_or(|before| before == line[3]), "{place:?} has two values");
    }
    places
}

/// Four members share a topic's partitions, one leaves, one is killed, one comes, the daemon is killed: every record is read, none
/// again that was committed, and those that stay go on.
pub async fn come_and_go(daemon: &mut Daemon, address: &str, client: KafkaClient, strategy: &str, more: &[String]) {
    let folder = daemon.path("members");
    fs::create_dir(&folder).unwrap();
    let group = Group { client, strategy, more, address, folder };
    group.produce(0, 1000);
    let mut members: Vec<Member> = ["a", "b", "c", "d"].map(|name| group.member(name)).into();
    share(daemon, &members.iter().collect::<Vec<_>>(), &[2, 2, 2, 2]).await;
    group.produce(1000, 2000);
    daemon.until("2000 are read", async |_| places(&members).len() == 2000).await;
    members[0].end(Signal::TERM);
    members[1].end(Signal::KILL);
    members.push(group.member("e"));
    group.produce(2000, 3000);
    share(daemon, &members.iter().skip(2).collect::<Vec<_>>(), &[2, 3, 3]).await;
    daemon.kill();
    daemon.started().await;
    group.produce(3000, 4000);
    daemon.until("all is read", async |_| places(&members).len() == 4000).await;
    for member in &mut members[2..] {
        member.end(Signal::TERM);
    }
    let found = places(&members);
    let mut values: Vec<u32> = found.values().map(|value| value.parse().unwrap()).collect();
    values.sort_unstable();
    assert!(values.into_iter().eq(0..4000), "each record has a place of its own");
    // All have left and committed: whoever comes next has nothing to read but what is new.
    group.produce(4000, 4001);
    let last = group.member("last");
    daemon.until("it resumes", async |_| last.told().iter().any(|line| line[0] == "read")).await;
    let read: Vec<_> = last.told().into_iter().filter(|line| line[0] == "read").map(|line| line[3].clone()).collect();
    assert_eq!(read, ["4000"], "what was committed is not read again");
}
