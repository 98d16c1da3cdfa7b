//! What the machine allows: bare loops over the same bytes, with nothing of ours but the checksum and the batch encoder.

#![expect(clippy::disallowed_types, reason = "the floor is the operating system itself")]

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use aqueduct_record::{Batch, BatchBuilder, crc32c};

use crate::meter::{Cost, measured};

/// One mebibyte.
pub(crate) const MIB: usize = 1 << 20;

/// Writes and deletes a few gigabytes, since the first touch of fresh memory by a virtual machine is many times slower.
pub(crate) fn warm_up(folder: &Path) {
    std::fs::create_dir_all(folder).expect("the bench folder can be made");
    let path = folder.join("warm");
    let mut file = File::create(&path).expect("the bench folder is writable");
    let block = vec![7u8; MIB];
    for _ in 0..4096 {
        file.write_all(&block).expect("room for 4 GiB");
    }
    drop(file);
    std::fs::remove_file(path).expect("the file is ours");
}

/// Removes a folder with all in it.
pub(crate) fn remove(folder: &Path) {
    let _ = std::fs::remove_dir_all(folder);
}

/// One thread: checksum and write `count` blocks, synced after every so many bytes.
pub(crate) fn write_and_checksum(folder: &Path, block: &[u8], count: usize, sync_every: u64) -> Cost {
    let path = folder.join("floor");
    let file = OpenOptions::new().create(true).truncate(true).write(true).open(&path).expect("a new file");
    let (cost, _) = measured(|| {
        let (mut sum, mut unsynced) = (0u32, 0);
        for n in 0..count {
            sum ^= crc32c(block);
            file.write_all_at(block, (n * block.len()) as u64).expect("room on the disk");
            unsynced += block.len() as u64;
            if unsynced >= sync_every {
                file.sync_data().expect("a disk that syncs");
                unsynced = 0;
            }
        }
        sum
    });
    // The next measurement is not to pay for this one's dirty pages.
    let _ = std::fs::remove_file(path);
    cost
}

/// One thread: read `length` bytes of a file in blocks of 1 MiB and checksum them.
pub(crate) fn read_and_checksum(path: &Path) -> (Cost, u64) {
    let file = File::open(path).expect("the file is there");
    let length = file.metadata().expect("an open file").len();
    let mut block = vec![0u8; MIB];
    let (cost, _) = measured(|| {
        let mut sum = 0u32;
        for at in (0..length).step_by(MIB) {
            let want = MIB.min((length - at) as usize);
            file.read_exact_at(&mut block[..want], at).expect("the file is whole");
            sum ^= crc32c(&block[..want]);
        }
        sum
    });
    (cost, length)
}

/// The bare loop from a file of lines to a file of batches: read, find newlines, encode, checksum, write.
pub(crate) fn lines_to_batches(lines: &Path, batches: &Path) -> (Cost, u64) {
    let mut input = File::open(lines).expect("the lines are there");
    let output = File::create(batches).expect("a new file");
    let length = input.metadata().expect("an open file").len();
    let (cost, ()) = measured(|| {
        let (mut block, mut kept, mut at) = (vec![0u8; MIB], 0, 0u64);
        loop {
            let count = input.read(&mut block[kept..]).expect("a readable file");
            if count == 0 {
                break;
            }
            let filled = kept + count;
            let mut builder = BatchBuilder::with_capacity(MIB + MIB / 8);
            let mut start = 0;
            for end in memchr::memchr_iter(b'\n', &block[..filled]) {
                builder.push(0, None, Some(&block[start..end]), &[]);
                start = end + 1;
            }
            let batch = builder.finish();
            output.write_all_at(batch.bytes(), at).expect("room on the disk");
            at += batch.size() as u64;
            block.copy_within(start..filled, 0);
            kept = filled - start;
        }
    });
    (cost, length)
}

/// The bare loop from a file of batches to files of lines of 64 MiB: read, checksum, decode, write, sync.
pub(crate) fn batches_to_lines(batches: &Path, folder: &Path) -> Cost {
    let input = File::open(batches).expect("the batches are there");
    let length = input.metadata().expect("an open file").len();
    let mut files = 0..;
    let mut file = || File::create(folder.join(format!("floor-lines-{}", files.next().unwrap_or(0)))).expect("a file");
    let (cost, ()) = measured(|| {
        let (mut output, mut written, mut at) = (file(), 0, 0u64);
        let mut lines = Vec::with_capacity(2 * MIB);
        while at < length {
            let mut head = [0u8; 12];
            input.read_exact_at(&mut head, at).expect("the file is whole");
            let size = 12 + u32::from_be_bytes([head[8], head[9], head[10], head[11]]) as usize;
            let mut batch = vec![0u8; size];
            input.read_exact_at(&mut batch, at).expect("the file is whole");
            let batch = Batch::parse(batch.into()).expect("a batch");
            for record in batch.records().expect("records").iter() {
                lines.extend_from_slice(record.expect("a record").value.unwrap_or_default());
                lines.push(b'\n');
            }
            output.write_all(&lines).expect("room on the disk");
            written += lines.len();
            lines.clear();
            at += size as u64;
            if written >= 64 * MIB || at == length {
                output.sync_data().expect("a disk that syncs");
                (output, written) = (file(), 0);
            }
        }
    });
    for file in 0..files.start {
        let _ = std::fs::remove_file(folder.join(format!("floor-lines-{file}")));
    }
    cost
}

/// zstd level 1 alone, over the same bytes.
pub(crate) fn zstd_alone(path: &Path) -> (Cost, u64) {
    let mut input = File::open(path).expect("the lines are there");
    let (cost, length) = measured(|| {
        let mut encoder = zstd::stream::write::Encoder::new(std::io::sink(), 1).expect("a zstd encoder");
        let mut block = vec![0u8; MIB];
        let mut length = 0u64;
        loop {
            let count = input.read(&mut block).expect("a readable file");
            if count == 0 {
                break;
            }
            length += count as u64;
            encoder.write_all(&block[..count]).expect("a sink takes all");
        }
        encoder.finish().expect("a sink takes all");
        length
    });
    (cost, length)
}

/// Writes `bytes` of numbered lines of `width` bytes each, newline included, with some entropy, as JSON where asked.
pub(crate) fn make_lines(path: &Path, bytes: u64, width: usize, json: bool) -> u64 {
    let mut output = std::io::BufWriter::with_capacity(MIB, File::create(path).expect("a new file"));
    let mut noise = 0x9e37_79b9_7f4a_7c15_u64;
    let (mut line, mut count) = (String::with_capacity(width), 0u64);
    while count * (width as u64) < bytes {
        line.clear();
        let (open, close) = if json {
            (format!("{{\"n\":{count},\"path\":\"/p{}\",\"text\":\"", count % 1000), "\"}")
        } else {
            (format!("{count:012} "), "")
        };
        line.push_str(&open);
        while line.len() + close.len() + 1 < width {
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            let word = WORDS[(noise % WORDS.len() as u64) as usize];
            let room = width - 1 - close.len() - line.len();
            line.push_str(&word[..word.len().min(room)]);
        }
        line.push_str(close);
        line.push('\n');
        output.write_all(line.as_bytes()).expect("room on the disk");
        count += 1;
    }
    output.flush().expect("room on the disk");
    count
}

const WORDS: [&str; 16] = [
    "GET ",
    "/index.html ",
    "200 ",
    "Mozilla/5.0 ",
    "10.0.0.1 ",
    "connection ",
    "user=4711 ",
    "took=12ms ",
    "404 ",
    "POST ",
    "/api/v1/orders ",
    "referer ",
    "- ",
    "bytes=5120 ",
    "upstream ",
    "cache-hit ",
];
