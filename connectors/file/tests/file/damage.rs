//! Compressed files that are damaged: what comes before the damage is read, the rest is one dead letter, and the other files go on.

use std::time::Duration;

use flate2::{Compress, Compression, FlushCompress};
use serde_json::json;

use crate::disk::gzip;
use crate::world::{QUIET, World};

const LINES: usize = 40_000;

/// Lines that are hard to compress, so that the damage lies among many blocks.
fn lines() -> Vec<String> {
    let line = |number: u64| format!("{number} {:016x}", (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    (0..LINES as u64).map(line).collect()
}

fn bytes() -> Vec<u8> {
    lines().iter().flat_map(|line| format!("{line}\n").into_bytes()).collect()
}

/// How a file is damaged.
#[derive(Clone, Copy, Debug)]
enum Harm {
    /// From the middle on, in the middle of a line, it is something else.
    Overwritten,
    /// The checksum at the end is another one.
    Checksum,
    /// There is something behind the end.
    Trailing,
    /// Its first member is well, its second one is none.
    Second,
    /// It never was compressed.
    Plain,
}

const HARMS: [Harm; 5] = [Harm::Overwritten, Harm::Checksum, Harm::Trailing, Harm::Second, Harm::Plain];

impl Harm {
    fn of(self, bytes: &[u8]) -> Vec<u8> {
        let mut compressed = gzip(bytes);
        let length = compressed.len();
        match self {
            Harm::Overwritten => {
                let half: usize = lines()[..LINES / 2].iter().map(|line| line.len() + 1).sum();
                let mut blocks = Vec::with_capacity(2 * half);
                let mut encoder = Compress::new(Compression::fast(), false);
                encoder.compress_vec(&bytes[..half + 7], &mut blocks, FlushCompress::Sync).unwrap();
                compressed.truncate(10);
                compressed.extend_from_slice(&blocks);
                // A block of a kind that there is not.
                compressed.resize(length, 0xff);
            }
            Harm::Checksum => compressed[length - 8] ^= 1,
            Harm::Trailing => compressed.extend_from_slice(b"behind the end"),
            Harm::Second => compressed.extend([&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3][..], &[0xff; 64]].concat()),
            Harm::Plain => return bytes.to_vec(),
        }
        compressed
    }

    /// How many lines come before the damage.
    fn readable(self) -> usize {
        match self {
            Harm::Overwritten => LINES / 2,
            Harm::Plain => 0,
            _ => LINES,
        }
    }
}

fn header<'a>(world: &'a World, name: &str) -> &'a str {
    let (_, value) = world.dead[0].headers.iter().find(|(other, _)| other == name).expect("the header is there");
    std::str::from_utf8(value).unwrap()
}

/// All that was read of one file is the beginning of its lines, and one letter tells where it ends.
fn check(world: &World, harm: Harm) {
    let read: Vec<_> = world.lines().into_iter().filter(|line| !line.starts_with("other")).collect();
    assert!(read == lines()[..harm.readable()], "{harm:?}: {}", read.len());
    assert_eq!(world.dead.len(), 1, "{harm:?}");
    let letter = &world.dead[0];
    assert!(letter.reason.starts_with("/l/a.gz is damaged: "), "{}", letter.reason);
    let bytes: usize =
        world.records.iter().filter(|(_, value)| !value.starts_with(b"other")).map(|it| it.1.len() + 1).sum();
    assert_eq!((header(world, "path"), header(world, "offset")), ("/l/a.gz", &*bytes.to_string()), "{harm:?}");
    let readable = bytes + letter.value.as_ref().map_or(0, |rest| rest.len());
    assert!(letter.reason.contains(&format!(" {readable} bytes")), "{}", letter.reason);
}

#[tokio::test(start_paused = true)]
async fn all_before_the_damage_is_read_the_damage_is_told_and_the_others_go_on() {
    for harm in HARMS {
        for batch in [4096, 1 << 20] {
            let mut world = World::new(json!({"paths": ["/l/*"]}));
            (world.batch, world.largest) = (batch, 4 << 20);
            world.disk.append("/l/a.gz", harm.of(&bytes()));
            world.disk.append("/l/b.gz", gzip(b"other 1\n"));
            world.disk.append("/l/c.log", "other 2\n");
            world.settle().await;
            check(&world, harm);
            world.disk.append("/l/c.log", "other 3\n");
            world.settle().await;
            let others: Vec<_> = world.lines().into_iter().filter(|line| line.starts_with("other")).collect();
            assert_eq!(others, ["other 1", "other 2", "other 3"], "{harm:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn damage_is_told_once_whenever_the_source_is_stopped() {
    for harm in HARMS {
        let mut world = World::new(json!({"paths": ["/l/*"]}));
        world.largest = 4 << 20;
        world.batch = 256 << 10;
        world.disk.append("/l/a.gz", harm.of(&bytes()));
        // One step in each life.
        while world.step(QUIET).await {
            world.stop();
        }
        check(&world, harm);
        // Neither moving it nor writing on tells it again.
        world.disk.rename("/l/a.gz", "/l/a.1.gz");
        world.settle().await;
        world.disk.append("/l/a.1.gz", "more");
        world.settle().await;
        world.stop();
        world.settle().await;
        check(&world, harm);
    }
}

#[tokio::test(start_paused = true)]
async fn the_rest_of_a_file_that_is_mended_is_read() {
    for (in_place, stopped) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut world = World::new(json!({"paths": ["/l/*"]}));
        world.largest = 4 << 20;
        world.disk.append("/l/a.gz", Harm::Overwritten.of(&bytes()));
        world.settle().await;
        check(&world, Harm::Overwritten);
        if stopped {
            world.stop();
        }
        match in_place {
            true => world.disk.write("/l/a.gz", gzip(&bytes())),
            false => {
                world.disk.remove("/l/a.gz");
                world.disk.append("/l/a.gz", gzip(&bytes()));
            }
        }
        world.settle().await;
        assert!(world.lines() == lines(), "in place: {in_place}, stopped: {stopped}: {}", world.records.len());
        assert_eq!(world.dead.len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_log_that_was_read_and_then_compressed_with_damage_is_not_read_again() {
    for stopped in [false, true] {
        let mut world = World::new(json!({"paths": ["/l/*"]}));
        world.largest = 4 << 20;
        world.disk.append("/l/a", bytes());
        world.settle().await;
        assert_eq!(world.lines(), lines());
        if stopped {
            world.stop();
        }
        let harmed = Harm::Overwritten.of(&bytes());
        world.disk.append("/l/a.gz", harmed);
        world.disk.remove("/l/a");
        world.settle().await;
        let again = world.lines().len() - LINES;
        assert_eq!((again, world.dead.len()), (0, 1), "stopped: {stopped}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_that_ends_in_the_middle_is_waited_for() {
    for after in ["-1", "1h"] {
        let mut world = World::new(json!({"paths": ["/l/*"], "unfinished-after": after}));
        world.largest = 4 << 20;
        let compressed = gzip(&bytes());
        let (first, rest) = compressed.split_at(compressed.len() / 2);
        world.disk.append("/l/a.gz", first);
        world.settle().await;
        let read = world.lines();
        assert!(read.len() > LINES / 3 && read[..] == lines()[..read.len()] && world.dead.is_empty());
        while world.step(Duration::from_secs(4000)).await {}
        assert_eq!(world.dead.len(), usize::from(after == "1h"));
        world.stop();
        world.settle().await;
        while world.step(Duration::from_secs(4000)).await {}
        assert_eq!(world.dead.len(), usize::from(after == "1h"), "it is told once");
        world.disk.append("/l/a.gz", rest);
        world.settle().await;
        assert_eq!(world.lines(), lines());
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_filled_in_place_is_not_told_as_damaged_while_it_is_written_to() {
    let mut world = World::new(json!({"paths": ["/l/*"]}));
    world.largest = 4 << 20;
    let members: Vec<_> = lines().chunks(LINES / 10).map(|part| gzip((part.join("\n") + "\n").as_bytes())).collect();
    for tenth in 1..=10 {
        let mut filled = members[..tenth].concat();
        filled.resize(members.concat().len(), 0);
        world.disk.write("/l/a.gz", filled);
        while world.step(Duration::from_secs(2)).await {}
        assert_eq!(world.dead.len(), 0, "{tenth}");
    }
    world.settle().await;
    assert_eq!((world.lines(), world.dead.len()), (lines(), 0));
}

#[tokio::test(start_paused = true)]
async fn a_line_that_is_too_long_waits_for_its_rest_in_a_file_that_ends_in_the_middle() {
    let mut world = World::new(json!({"paths": ["/l/*"], "max-record": "1 KiB", "unfinished-after": "1h"}));
    world.largest = 4 << 20;
    let compressed = gzip(&[lines().concat().as_bytes(), b"\nshort\n"].concat());
    let (first, rest) = compressed.split_at(compressed.len() / 2);
    world.disk.append("/l/a.gz", first);
    world.settle().await;
    assert_eq!((world.records.len(), world.dead.len()), (0, 0));
    world.disk.append("/l/a.gz", rest);
    world.settle().await;
    assert_eq!((world.lines(), world.dead.len()), (vec!["short".to_owned()], 1));
    assert!(world.dead[0].reason.contains("is longer than max-record"), "{}", world.dead[0].reason);
}
