//! What rotation does to files, as a table. Each case runs with lines so short that files look alike at their heads and with
//! long ones, with a source that goes on and with one that is down whenever something happens to the files.

use serde_json::json;
use std::time::Duration;

use Step::*;

use crate::disk::gzip;
use crate::world::World;

/// Something that happens.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Appends words, each a line.
    Write(&'static str, &'static str),
    /// Appends a word without a newline.
    Begin(&'static str, &'static str),
    Rename(&'static str, &'static str),
    Copy(&'static str, &'static str),
    Truncate(&'static str),
    Remove(&'static str),
    /// Compresses into another file, which may be there, and leaves the first one.
    Gzip(&'static str, &'static str),
    /// Appends the part of a compressed file's bytes that lies between two quarters of it.
    GzipPart(&'static str, &'static str, usize, usize),
    HardLink(&'static str, &'static str),
    Link(&'static str, &'static str),
    /// The source reads until nothing comes any more.
    Read,
    /// The source reads for so many milliseconds.
    Glance(u64),
}

/// How a case is run.
#[derive(Clone, Copy, Debug)]
struct Run {
    long: bool,
    restarts: bool,
}

const RUNS: [Run; 4] = [
    Run { long: false, restarts: false },
    Run { long: true, restarts: false },
    Run { long: false, restarts: true },
    Run { long: true, restarts: true },
];

const LOG: &str = "/l/app.log";
const ONE: &str = "/l/app.log.1";
const TWO: &str = "/l/app.log.2";
const ONE_GZ: &str = "/l/app.log.1.gz";
const TWO_GZ: &str = "/l/app.log.2.gz";

/// All rotated files match.
const ALL: &[&str] = &["/l/app.log*"];
/// Only the live file matches.
const LIVE: &[&str] = &[LOG];

/// Runs a case and compares the lines, in order, with those expected.
fn check(name: &str, paths: &[&str], steps: &[Step], expected: &str) {
    for run in RUNS {
        check_run(name, paths, steps, expected, run);
    }
}

fn check_run(name: &str, paths: &[&str], steps: &[Step], expected: &str, run: Run) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let lines = runtime.block_on(async {
        let mut world = World::new(json!({ "paths": paths }));
        for step in steps {
            happen(&mut world, *step, run).await;
        }
        world.lines()
    });
    let words: Vec<&str> = lines.iter().map(|line| line.trim_end_matches('.')).collect();
    assert_eq!(words.join(" "), expected, "{name}, {run:?}");
}

async fn happen(world: &mut World, step: Step, run: Run) {
    let padded = |word: &str| if run.long { format!("{word:.<700}") } else { word.to_owned() };
    let disk = &world.disk;
    match step {
        Write(path, words) => words.split(' ').for_each(|word| disk.append(path, padded(word) + "\n")),
        Begin(path, word) => disk.append(path, word),
        Rename(from, to) => disk.rename(from, to),
        Copy(from, to) => disk.copy(from, to),
        Truncate(path) => disk.truncate(path),
        Remove(path) => disk.remove(path),
        Gzip(from, to) => disk.gzip(from, to),
        GzipPart(from, to, begin, end) => {
            let bytes = gzip(&disk.bytes(from));
            disk.append(to, &bytes[bytes.len() * begin / 4..bytes.len() * end / 4]);
        }
        HardLink(from, to) => disk.hard_link(from, to),
        Link(target, path) => disk.link(target, path),
        Read => {
            world.settle().await;
            if run.restarts {
                world.stop();
            }
        }
        Glance(milliseconds) => {
            while world.step(Duration::from_millis(milliseconds)).await {}
            if run.restarts {
                world.stop();
            }
        }
    }
}

macro_rules! cases {
    ($($name:ident: $paths:expr, [$($step:expr),* $(,)?] => $expected:literal;)*) => {
        $(#[test]
        fn $name() {
            check(stringify!($name), $paths, &[$($step),*], $expected);
        })*
    };
}

cases! {
    renamed_in_the_glob: ALL,
        [Write(LOG, "a1 a2"), Read, Rename(LOG, ONE), Write(LOG, "b1"), Read] => "a1 a2 b1";
    renamed_out_of_the_glob: LIVE,
        [Write(LOG, "a1 a2"), Read, Rename(LOG, ONE), Write(LOG, "b1"), Read] => "a1 a2 b1";
    renamed_with_a_rest_unread: ALL,
        [Write(LOG, "a1"), Read, Write(LOG, "a2 a3"), Rename(LOG, ONE), Write(LOG, "b1"), Read] => "a1 a2 a3 b1";
    renamed_out_of_the_glob_with_a_rest_unread: LIVE,
        [Write(LOG, "a1"), Read, Write(LOG, "a2 a3"), Rename(LOG, ONE), Write(LOG, "b1"), Read] => "a1 a2 a3 b1";
    written_to_after_it_was_renamed: ALL,
        [Write(LOG, "a1"), Read, Rename(LOG, ONE), Write(LOG, "b1"), Glance(1100), Write(ONE, "a2"), Read] => "a1 a2 b1";
    written_to_long_after_it_was_renamed: ALL,
        [Write(LOG, "a1"), Read, Rename(LOG, ONE), Write(LOG, "b1"), Read, Write(ONE, "a2"), Read] => "a1 b1 a2";
    renamed_before_it_was_first_seen: ALL,
        [Write(LOG, "a1"), Rename(LOG, ONE), Write(LOG, "b1"), Read] => "a1 b1";
    a_chain_of_names: ALL,
        [Write(LOG, "a1"), Read, Rename(LOG, ONE), Write(LOG, "b1"), Read,
         Rename(ONE, TWO), Rename(LOG, ONE), Write(LOG, "c1"), Read, Write(LOG, "c2"), Read] => "a1 b1 c1 c2";
    two_rotations_out_of_the_glob: LIVE,
        [Write(LOG, "a1"), Read, Rename(LOG, ONE), Write(LOG, "b1"), Read, Write(LOG, "b2"),
         Rename(ONE, TWO), Rename(LOG, ONE), Write(LOG, "c1"), Read] => "a1 b1 b2 c1";
    the_last_of_a_chain_is_removed: ALL,
        [Write(LOG, "a1"), Read, Rename(LOG, ONE), Write(LOG, "b1"), Read,
         Remove(ONE), Rename(LOG, ONE), Write(LOG, "c1"), Read] => "a1 b1 c1";
    renamed_over_the_one_before: ALL,
        [Write(LOG, "a1"), Read, Rename(LOG, ONE), Write(LOG, "b1"), Read, Rename(LOG, ONE), Write(LOG, "c1"), Read]
        => "a1 b1 c1";

    copied_and_truncated: ALL,
        [Write(LOG, "a1 a2"), Read, Copy(LOG, ONE), Truncate(LOG), Write(LOG, "b1"), Read] => "a1 a2 b1";
    copied_and_truncated_with_a_rest_unread: ALL,
        [Write(LOG, "a1"), Read, Write(LOG, "a2 a3"), Copy(LOG, ONE), Truncate(LOG), Write(LOG, "b1"), Read]
        => "a1 a2 a3 b1";
    copied_out_of_the_glob_and_truncated_with_a_rest_unread: LIVE,
        [Write(LOG, "a1"), Read, Write(LOG, "a2 a3"), Copy(LOG, ONE), Truncate(LOG), Write(LOG, "b1"), Read]
        => "a1 a2 a3 b1";
    the_copy_is_seen_before_the_truncation: ALL,
        [Write(LOG, "a1"), Read, Copy(LOG, ONE), Read, Truncate(LOG), Read, Write(LOG, "b1"), Read] => "a1 b1";
    the_copy_is_seen_before_the_truncation_and_more_is_read_then: ALL,
        [Write(LOG, "a1"), Read, Write(LOG, "a2"), Copy(LOG, ONE), Read, Truncate(LOG), Write(LOG, "b1"), Read]
        => "a1 a2 b1";
    truncated_and_grown_again_beyond_what_was_read: ALL,
        [Write(LOG, "a1"), Read, Copy(LOG, ONE), Truncate(LOG), Write(LOG, "b1 b2 b3"), Read] => "a1 b1 b2 b3";
    truncated_and_grown_again_to_the_same_length: ALL,
        [Write(LOG, "a1 a2"), Read, Copy(LOG, ONE), Truncate(LOG), Write(LOG, "b1 b2"), Read] => "a1 a2 b1 b2";
    truncated_and_grown_again_to_the_length_of_an_unfinished_line: ALL,
        [Begin(LOG, "a1x"), Read, Copy(LOG, ONE), Truncate(LOG), Read, Write(LOG, "b1"), Read] => "a1x b1";
    copied_out_of_the_glob_and_grown_again: LIVE,
        [Write(LOG, "a1"), Read, Write(LOG, "a2"), Copy(LOG, ONE), Truncate(LOG), Write(LOG, "b1 b2 b3"), Read]
        => "a1 a2 b1 b2 b3";
    copied_and_truncated_twice: ALL,
        [Write(LOG, "a1"), Read, Copy(LOG, ONE), Truncate(LOG), Write(LOG, "b1"), Read,
         Rename(ONE, TWO), Copy(LOG, ONE), Truncate(LOG), Write(LOG, "c1"), Read] => "a1 b1 c1";
    compressed_after_it_was_read: ALL,
        [Write(LOG, "a1 a2"), Read, Rename(LOG, ONE), Write(LOG, "b1"), Read, Gzip(ONE, TWO_GZ), Remove(ONE), Read,
         Write(LOG, "b2"), Read] => "a1 a2 b1 b2";
    compressed_with_a_rest_unread: ALL,
        [Write(LOG, "a1"), Read, Write(LOG, "a2 a3"), Rename(LOG, ONE), Gzip(ONE, ONE_GZ), Remove(ONE),
         Write(LOG, "b1"), Read] => "a1 a2 a3 b1";
    compressed_before_its_first_line_had_an_end: ALL,
        [Begin(LOG, "a"), Read, Write(LOG, "1"), Rename(LOG, ONE), Gzip(ONE, TWO_GZ), Remove(ONE), Write(LOG, "b1"), Read]
        => "a1 b1";
    compressed_out_of_the_glob_with_a_rest_unread: LIVE,
        [Write(LOG, "a1"), Read, Write(LOG, "a2 a3"), Rename(LOG, ONE), Gzip(ONE, ONE_GZ), Remove(ONE),
         Write(LOG, "b1"), Read] => "a1 a2 a3 b1";
    compressed_step_by_step_beside_the_original: ALL,
        [Write(LOG, "a1 a2 a3"), Read, Rename(LOG, ONE), Write(LOG, "b1"), Read, GzipPart(ONE, ONE_GZ, 0, 1), Glance(1100),
         GzipPart(ONE, ONE_GZ, 1, 3), Glance(1100), GzipPart(ONE, ONE_GZ, 3, 4), Glance(1100), Remove(ONE), Read,
         Rename(ONE_GZ, TWO_GZ), Read, Write(LOG, "b2"), Read] => "a1 a2 a3 b1 b2";
    compressed_before_it_was_first_seen: ALL,
        [Write("/o/x", "a1 a2"), Gzip("/o/x", ONE_GZ), Write(LOG, "b1"), Read] => "a1 a2 b1";
    compressed_in_two_members: ALL,
        [Write("/o/x", "a1"), Write("/o/y", "a2"), Gzip("/o/x", ONE_GZ), Read, Gzip("/o/y", ONE_GZ), Read,
         Gzip("/o/y", ONE_GZ), Read] => "a1 a2 a2";
    a_compressed_file_that_grows: ALL,
        [Write("/o/x", "a1 a2"), GzipPart("/o/x", ONE_GZ, 0, 2), Read, GzipPart("/o/x", ONE_GZ, 2, 4), Read] => "a1 a2";
    a_middle_name_matches_no_glob: &["/l/app.log", "/l/*.gz"],
        [Write(LOG, "a1 a2"), Read, Rename(LOG, ONE), Write(LOG, "b1"), Read, Gzip(ONE, TWO_GZ), Remove(ONE), Read,
         Write(LOG, "b2"), Read] => "a1 a2 b1 b2";

    removed_and_made_again: ALL,
        [Write(LOG, "a1 a2"), Read, Remove(LOG), Write(LOG, "b1"), Read] => "a1 a2 b1";
    removed_and_made_again_longer: ALL,
        [Write(LOG, "a1"), Read, Remove(LOG), Write(LOG, "b1 b2 b3"), Read] => "a1 b1 b2 b3";
    removed_and_made_again_of_the_same_length: ALL,
        [Write(LOG, "a1 a2"), Read, Remove(LOG), Write(LOG, "b1 b2"), Read] => "a1 a2 b1 b2";
    removed_and_made_again_much_later: ALL,
        [Write(LOG, "a1 a2"), Read, Remove(LOG), Read, Write(LOG, "b1"), Read] => "a1 a2 b1";
    rewritten_shorter_with_the_same_first_line: ALL,
        [Write(LOG, "h a1 a2 a3"), Read, Truncate(LOG), Write(LOG, "h b1"), Read] => "h a1 a2 a3 h b1";
    rewritten_longer_with_the_same_first_line: ALL,
        [Write(LOG, "h a1"), Read, Truncate(LOG), Write(LOG, "h b1 b2"), Read] => "h a1 h b1 b2";
    rewritten_to_the_same_length_with_the_same_first_line: ALL,
        [Write(LOG, "h a1"), Read, Truncate(LOG), Write(LOG, "h b1"), Read] => "h a1 h b1";
    truncated_and_nothing_else: ALL,
        [Write(LOG, "a1"), Read, Truncate(LOG), Read, Write(LOG, "b1"), Read] => "a1 b1";

    unrelated_files_that_begin_alike: &["/l/*.log"],
        [Write("/l/x.log", "h i j"), Write("/l/y.log", "h i j"), Read, Write("/l/z.log", "h i j"), Read,
         Write("/l/x.log", "k"), Write("/l/z.log", "l"), Read] => "h i j h i j h i j k l";
    related_files_that_begin_alike: &["/l/*.log"],
        [Write("/l/app.log", "h i"), Read, Write("/l/app-web.log", "h i w1"), Read, Write("/l/app.log", "a1"), Read,
         Write("/l/app-web.log", "w2"), Read] => "h i h i w1 a1 w2";
    hard_links_are_read_once: &["/l/*.log"],
        [Write("/l/a.log", "a1"), HardLink("/l/a.log", "/l/b.log"), Read, Write("/l/b.log", "a2"), Read,
         Remove("/l/a.log"), Read, Write("/l/b.log", "a3"), Read] => "a1 a2 a3";
    links_to_files_are_followed: &["/l/*.log"],
        [Write("/data/x-1", "a1"), Link("/data/x-1", "/l/a.log"), Read, Write("/data/x-1", "a2"), Read] => "a1 a2";
    a_link_and_its_target_are_read_once: &["/l/*.log"],
        [Write("/l/x.log", "a1"), Link("x.log", "/l/a.log"), Read, Write("/l/x.log", "a2"), Read] => "a1 a2";
    a_link_moves_on_to_another_file: &["/l/*.log"],
        [Write("/data/x-1", "a1"), Link("/data/x-1", "/l/a.log"), Read, Write("/data/x-2", "b1"), Remove("/l/a.log"),
         Link("/data/x-2", "/l/a.log"), Read] => "a1 b1";
    a_link_to_itself_is_no_file: &["/l/*.log"],
        [Link("/l/a.log", "/l/a.log"), Write("/l/b.log", "b1"), Read] => "b1";
    links_between_folders_do_not_lead_in_circles: &["/l/**/*.log"],
        [Write("/l/d/a.log", "a1"), Link("/l", "/l/d/up"), Link("/l/d", "/l/e"), Read, Write("/l/d/a.log", "a2"), Read]
        => "a1 a2";
    one_file_under_two_globs: &["/l/*.log", "/l/a*"],
        [Write("/l/a.log", "a1"), Read, Write("/l/a.log", "a2"), Read] => "a1 a2";
    moved_in_from_outside: ALL,
        [Write("/o/x", "a1"), Read, Rename("/o/x", LOG), Read, Write(LOG, "a2"), Read] => "a1 a2";
    moved_between_folders_of_the_glob: &["/l/**/*.log"],
        [Write("/l/new/a.log", "a1"), Read, Rename("/l/new/a.log", "/l/old/b.log"), Read, Write("/l/old/b.log", "a2"), Read]
        => "a1 a2";

    a_last_line_without_its_end_waits: ALL,
        [Write(LOG, "a1"), Begin(LOG, "a"), Read, Write(LOG, "2"), Read] => "a1 a2";
    a_last_line_without_its_end_counts_once_rotated: ALL,
        [Write(LOG, "a1"), Begin(LOG, "a2"), Read, Rename(LOG, ONE), Write(LOG, "b1"), Read] => "a1 a2 b1";
    a_last_line_without_its_end_counts_once_rotated_out_of_the_glob: LIVE,
        [Write(LOG, "a1"), Begin(LOG, "a2"), Read, Rename(LOG, ONE), Write(LOG, "b1"), Read] => "a1 a2 b1";
    a_last_line_without_its_end_in_a_copy: ALL,
        [Write(LOG, "a1"), Begin(LOG, "a2"), Read, Copy(LOG, ONE), Truncate(LOG), Write(LOG, "b1"), Read] => "a1 a2 b1";
    a_last_line_without_its_end_in_a_compressed_file: ALL,
        [Write("/o/x", "a1"), Begin("/o/x", "a2"), Gzip("/o/x", ONE_GZ), Read] => "a1 a2";
    a_last_line_is_ended_shortly_after_the_rotation: ALL,
        [Write(LOG, "a1"), Begin(LOG, "a"), Read, Rename(LOG, ONE), Write(LOG, "b1"), Glance(1100), Write(ONE, "2"), Read]
        => "a1 a2 b1";
    an_empty_file_is_rotated: ALL,
        [Write(ONE, "a1"), Begin(LOG, ""), Read, Rename(ONE, TWO), Rename(LOG, ONE), Write(LOG, "b1"), Read] => "a1 b1";
}

/// The source remembers what is a copy only as long as it runs.
#[test]
fn a_copy_that_lags_behind_is_not_read_again() {
    let steps = [
        Write(LOG, "a1 a2"),
        Read,
        Copy(LOG, ONE),
        Read,
        Write(LOG, "a3"),
        Read,
        Truncate(LOG),
        Write(LOG, "b1"),
        Read,
        Write(LOG, "b2"),
        Read,
    ];
    for long in [false, true] {
        check_run("lagging", ALL, &steps, "a1 a2 a3 b1 b2", Run { long, restarts: false });
    }
}

/// What is unlinked is there as long as it is open, and lost for a source that was down.
#[test]
fn unlinked_while_open_and_unread() {
    for long in [false, true] {
        let run = Run { long, restarts: false };
        let steps = [Write(LOG, "a1"), Read, Write(LOG, "a2"), Remove(LOG), Write(LOG, "b1"), Read];
        check_run("unlinked", ALL, &steps, "a1 a2 b1", run);
        let idle = [Write(LOG, "a1"), Read, Glance(60_000), Write(LOG, "a2"), Remove(LOG), Read];
        check_run("unlinked after it was idle", ALL, &idle, "a1 a2", run);
    }
}
