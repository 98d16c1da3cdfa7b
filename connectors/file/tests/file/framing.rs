//! What becomes of bytes: each case is written in pieces of several lengths and read in blocks of several lengths, and must
//! give the same records.

use std::time::Duration;

use serde_json::{Value, json};

use crate::world::World;

/// How a case's bytes are written: so many bytes at once (0: all), each of them read before the next.
const PIECES: [usize; 3] = [0, 1, 7];

/// Settings, with the paths added.
fn world(settings: &Value) -> World {
    let mut settings = settings.clone();
    settings["paths"] = json!(["/l/*.log"]);
    World::new(settings)
}

/// What is written becomes these records, once nothing has come for a while, and so many dead letters.
fn check(settings: Value, written: &[u8], expected: &[&[u8]], dead: usize) {
    for piece in PIECES {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut world = world(&settings);
            world.batch = 4096;
            for bytes in written.chunks(if piece == 0 { written.len() } else { piece }) {
                world.disk.append("/l/a.log", bytes);
                // Shorter than whatever counts as a pause.
                while world.step(Duration::from_millis(300)).await {}
            }
            world.settle().await;
            let told = format!("{settings}, in pieces of {piece}");
            let shown: Vec<_> = world.lines();
            let values: Vec<&[u8]> = world.records.iter().map(|(_, value)| &value[..]).collect();
            assert!(values == expected, "{told}: {shown:?}");
            assert_eq!(world.dead.len(), dead, "{told}");
        });
    }
}

#[test]
fn bytes_stay_as_they_are() {
    check(json!({}), b"a\r\n\n\n\xff\xfe\x00b\n\r\nlast", &[b"a\r", b"", b"", b"\xff\xfe\0b", b"\r"], 0);
    check(json!({"unfinished-after": "5s"}), b"\xff\nlast\xc3", &[b"\xff", b"last\xc3"], 0);
}

#[test]
fn zero_bytes_end_records() {
    check(json!({"framing": "nul"}), b"a\nb\0\0c\r\n\0rest\n", &[b"a\nb", b"", b"c\r\n"], 0);
    let groups = json!({"framing": "nul", "multiline": {"start": "^a"}});
    check(groups, b"a1\0 \n\0a2\0", &[b"a1\0 \n", b"a2"], 0);
    let short = json!({"framing": "nul", "max-record": 3});
    check(short, b"abc\0abcd\0\n\n\n\0x\0", &[b"abc", b"\n\n\n", b"x"], 1);
}

#[test]
fn lines_are_gathered_by_what_begins_a_record() {
    let settings = json!({"multiline": {"start": "^[0-9]"}});
    check(settings.clone(), b"1 a\n at\n at\n2 b\n3 c\n at\n", &[b"1 a\n at\n at", b"2 b", b"3 c\n at"], 0);
    check(settings.clone(), b" lost its head\n1\n", &[b" lost its head", b"1"], 0);
    check(settings.clone(), b"1\r\n\r\n\xff\n2\n", &[b"1\r\n\r\n\xff", b"2"], 0);
    check(settings, b"1\n\n\n2", &[b"1\n\n"], 0);
}

#[test]
fn lines_are_gathered_by_what_continues_a_record() {
    let settings = json!({"multiline": {"continue": r"^\s"}});
    check(settings.clone(), b"a\n at\n at\nb\nc\n at\n", &[b"a\n at\n at", b"b", b"c\n at"], 0);
    check(settings, b" at\nb\n", &[b" at", b"b"], 0);
}

#[test]
fn groups_end_at_the_most_lines() {
    let settings = json!({"multiline": {"start": "^a", "max-lines": 2}});
    check(settings, b"a\n1\n2\n3\n4\na\na\n5\n", &[b"a\n1", b"2\n3", b"4", b"a", b"a\n5"], 0);
    check(json!({"multiline": {"start": "^a", "max-lines": 1}}), b"a\n1\na\n", &[b"a", b"1", b"a"], 0);
}

#[test]
fn groups_end_where_they_would_be_too_long() {
    let settings = json!({"multiline": {"start": "^a"}, "max-record": 8});
    check(settings.clone(), b"a\n123456\na\n1234567\na\n", &[b"a\n123456", b"a", b"1234567", b"a"], 0);
    // A line that is too long by itself is nobody's: what came before it is a record.
    check(settings.clone(), b"a\n1\n123456789\n2\na\n", &[b"a\n1", b"2", b"a"], 1);
    check(settings.clone(), b"a\n1\n12345678901234567890", &[b"a\n1"], 0);
    check(settings, b"a\n12\n1234", &[b"a\n12"], 0);
}

#[test]
fn groups_may_be_longer_than_a_block() {
    let group = |name: &str| format!("{name}\n{}", " at some line of it\n".repeat(700));
    let (one, two) = (group("a1"), group("a2"));
    let all = [one.as_bytes(), two.as_bytes()].concat();
    let trimmed = |text: &str| text.trim_end().as_bytes().to_vec();
    for batch in [4096, 20_000] {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut world = world(&json!({"multiline": {"start": "^a"}}));
            world.batch = batch;
            world.disk.append("/l/a.log", &all);
            world.settle().await;
            let values: Vec<Vec<u8>> = world.records.iter().map(|(_, value)| value.clone()).collect();
            assert!(values == [trimmed(&one), trimmed(&two)], "{} records", values.len());
        });
    }
}

#[test]
fn a_line_at_the_limit_is_a_record_and_one_above_is_not() {
    let ten = json!({"max-record": 10, "unfinished-after": "5s"});
    check(ten.clone(), b"1234567890\nx\n", &[b"1234567890", b"x"], 0);
    check(ten.clone(), b"x\n12345678901\n1\n2\n3\n", &[b"x", b"1", b"2", b"3"], 1);
    check(ten.clone(), b"1234567890", &[b"1234567890"], 0);
    check(ten.clone(), b"x\n12345678901", &[b"x"], 1);
    check(ten, b"12345678901\n12345678901\n\n12345678901\n", &[b""], 3);
    let block = "y".repeat(4096);
    let (at, above) = (json!({"max-record": 4096}), json!({"max-record": 4095}));
    let bytes = format!("{block}\nnext\n");
    check_whole(at, bytes.as_bytes(), &[block.as_bytes(), b"next"], 0);
    check_whole(above, bytes.as_bytes(), &[b"next"], 1);
}

/// As [`check`], of what is long: written at once.
fn check_whole(settings: Value, written: &[u8], expected: &[&[u8]], dead: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let mut world = world(&settings);
        world.batch = 4096;
        world.disk.append("/l/a.log", written);
        world.settle().await;
        let values: Vec<&[u8]> = world.records.iter().map(|(_, value)| &value[..]).collect();
        assert!(values == expected && world.dead.len() == dead, "{settings}: {} records", values.len());
    });
}

#[tokio::test(start_paused = true)]
async fn a_group_waits_so_long_for_its_next_line() {
    let mut world = world(&json!({"multiline": {"start": "^a", "timeout": "3s"}}));
    world.disk.append("/l/a.log", "a1\n 1\n");
    assert!(!world.step(Duration::from_millis(2500)).await);
    world.disk.append("/l/a.log", " 2\n");
    assert!(!world.step(Duration::from_millis(2500)).await);
    world.settle().await;
    assert_eq!(world.lines(), ["a1\n 1\n 2"]);
    world.disk.append("/l/a.log", " 3\n");
    world.settle().await;
    assert_eq!(world.lines()[1..], [" 3"]);
}

#[tokio::test(start_paused = true)]
async fn rotation_ends_a_group_and_its_last_line() {
    for (end, expected) in [("", vec!["a1\n 1\n 2", "b1"]), ("\n", vec!["a1\n 1\n 2", "b1"])] {
        let mut world = world(&json!({"multiline": {"start": "^[ab]", "timeout": "1h"}}));
        world.disk.append("/l/a.log", format!("a1\n 1\n 2{end}"));
        world.settle().await;
        assert_eq!(world.records.len(), 0);
        world.disk.rename("/l/a.log", "/l/a.log.1");
        world.disk.append("/l/a.log", "b1\n");
        world.settle().await;
        world.disk.append("/l/a.log", "b2\n");
        world.settle().await;
        assert_eq!(world.lines(), expected, "{end:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_compressed_file_ends_its_last_group() {
    let mut world = World::new(json!({"paths": ["/l/*.gz"], "multiline": {"continue": "^ "}, "max-record": 20}));
    world.disk.append("/o/whole", "a1\n 1\nb1\n 1\n 2");
    world.disk.append("/o/long", format!("c1\n{}\nd1\n", "x".repeat(21)));
    for name in ["whole", "long"] {
        world.disk.gzip(&format!("/o/{name}"), &format!("/l/{name}.gz"));
    }
    world.settle().await;
    let mut lines = world.lines();
    lines.sort();
    assert_eq!((lines, world.dead.len()), (["a1\n 1", "b1\n 1\n 2", "c1", "d1"].map(str::to_owned).to_vec(), 1));
}

#[tokio::test(start_paused = true)]
async fn a_newline_that_comes_after_its_line_counted_is_no_empty_line() {
    let mut world = world(&json!({"unfinished-after": "1s", "max-record": 5}));
    for piece in ["one", "\ntwo", "\n", "\n", "too long", "\nend\n"] {
        world.disk.append("/l/a.log", piece);
        world.settle().await;
        world.stop();
    }
    assert_eq!((world.lines(), world.dead.len()), (["one", "two", "", "end"].map(str::to_owned).to_vec(), 1));
}

#[tokio::test(start_paused = true)]
async fn a_line_that_is_too_long_is_forgotten_when_its_file_is_cut() {
    for again in ["b\nc\n", "0123456789012345\nb\nc\n"] {
        let mut world = world(&json!({"max-record": 10}));
        world.disk.append("/l/a.log", "0123456789".repeat(5));
        world.settle().await;
        world.disk.truncate("/l/a.log");
        world.disk.append("/l/a.log", again);
        world.settle().await;
        assert_eq!((world.lines(), world.dead.len()), (vec!["b".to_owned(), "c".into()], again.len() / 20));
    }
}

#[tokio::test(start_paused = true)]
async fn records_tell_where_they_are_from() {
    let mut world = world(&json!({"headers": ["offset", "path", "inode"], "max-record": 20}));
    world.disk.append("/l/a.log", format!("one\n\n{}\ntwo\n", "long".repeat(9)));
    world.settle().await;
    world.disk.rename("/l/a.log", "/l/b.log");
    world.disk.append("/l/b.log", "three\n");
    world.settle().await;
    let expected = [("0", "/l/a.log"), ("4", "/l/a.log"), ("42", "/l/a.log"), ("46", "/l/b.log")];
    let told = expected.map(|(offset, path)| [("offset", offset), ("path", path), ("inode", "10")]);
    let owned = told.map(|headers| headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec());
    assert_eq!(world.headers, owned);
}

/// The world refuses batches that are larger than the largest.
#[tokio::test(start_paused = true)]
async fn tiny_lines_fill_batches_and_never_too_much() {
    for (headers, line) in [(json!([]), ""), (json!(["path", "inode", "offset"]), "x")] {
        for (batch, largest) in [(64 << 10, 64 << 10), (4096, 20_000), (1 << 20, 1 << 20)] {
            let mut world = world(&json!({ "headers": headers }));
            (world.batch, world.largest) = (batch, largest);
            let long = "y".repeat(largest as usize - (8 << 10));
            world.disk.append("/l/a.log", format!("{line}\n").repeat(30_000));
            world.disk.append("/l/a.log", format!("{long}\n{line}\n{long}\n{line}\n"));
            world.settle().await;
            let lengths: Vec<usize> = world.records[30_000..].iter().map(|(_, value)| value.len()).collect();
            assert_eq!(lengths, [long.len(), line.len(), long.len(), line.len()], "{headers} {batch} {largest}");
            assert_eq!((world.records.len(), world.dead.len()), (30_004, 0));
        }
    }
}
