//! Reading files that only grow.

use serde_json::json;

use crate::world::World;

#[tokio::test(start_paused = true)]
async fn lines_become_records_and_reading_goes_on_after_every_position() {
    let mut world = World::new(json!({"paths": ["/l/*.log"]}));
    world.batch = 4096;
    let lines: Vec<String> = (0..3000).map(|n| format!("line {n} {}", "x".repeat(n % 70))).collect();
    world.disk.append("/l/a.log", lines.iter().map(|line| format!("{line}\n")).collect::<String>());
    while world.lines().len() < lines.len() {
        assert!(world.step(crate::world::QUIET).await, "there is more to read");
        world.stop();
    }
    world.settle().await;
    assert_eq!(world.lines(), lines);
    world.disk.append("/l/a.log", "one\ntwo");
    world.settle().await;
    world.disk.append("/l/a.log", " and a half\n");
    world.settle().await;
    assert_eq!(world.lines()[3000..], ["one", "two and a half"]);
}

#[tokio::test(start_paused = true)]
async fn what_can_not_be_read_does_not_keep_the_rest() {
    let mut world = World::new(json!({"paths": ["/l/*.log", "/gone/**/*.log"]}));
    world.disk.pipe("/l/pipe.log");
    world.disk.folder("/gone/there");
    world.disk.append("/l/secret.log", "s\n");
    world.disk.append("/l/open.log", "o\n");
    world.disk.append("/gone/there/g.log", "g\n");
    world.disk.refuse("/l/secret.log", true);
    world.settle().await;
    world.disk.remove_all("/gone");
    world.disk.append("/l/open.log", "p\n");
    world.settle().await;
    assert_eq!(world.lines(), ["o", "g", "p"]);
    world.disk.refuse("/l/secret.log", false);
    world.settle().await;
    assert_eq!(world.lines(), ["o", "g", "p", "s"]);
}

#[tokio::test(start_paused = true)]
async fn many_files_share_256_descriptors() {
    let mut world = World::new(json!({"paths": ["/l/*.log"]}));
    for round in 0..3 {
        for file in 0..300 {
            world.disk.append(&format!("/l/{file}.log"), format!("{file} {round}\n"));
        }
        world.settle().await;
        assert_eq!(world.records.len(), 300 * (round + 1));
    }
    assert!(world.disk.most_open() <= 257, "{} were open", world.disk.most_open());
}

#[tokio::test(start_paused = true)]
async fn a_line_that_is_too_long_becomes_a_dead_letter_and_the_next_one_a_record() {
    for pieces in [1, 7] {
        let mut world = World::new(json!({"paths": ["/l/*.log"], "max-record": "10 kB"}));
        let long = "y".repeat(50_001);
        world.disk.append("/l/a.log", "first\n");
        for piece in long.as_bytes().chunks(long.len() / pieces) {
            world.disk.append("/l/a.log", piece);
            world.settle().await;
        }
        world.disk.append("/l/a.log", "\nnext\n");
        world.settle().await;
        assert_eq!(world.lines(), ["first", "next"]);
        let header = |name: &str| world.dead[0].headers.iter().find(|(other, _)| other == name).unwrap().1.clone();
        assert_eq!((world.dead.len(), &header("bytes")[..]), (1, &b"6-50007"[..]));
        assert_eq!((&header("path")[..], header("inode")), (&b"/l/a.log"[..], "10".into()));
        assert_eq!(header("crc32c"), format!("{:08x}", aqueduct_record::crc32c(long.as_bytes())));
        assert_eq!(world.headers.iter().map(Vec::len).sum::<usize>() + world.ended, 0);
    }
}
