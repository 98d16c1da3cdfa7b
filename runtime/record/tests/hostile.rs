//! Bytes from outside: damaged, cut off, made up. Each is an error, none a panic.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;

use aqueduct_record::{Batch, BatchBuilder, BatchError, Compression, Inflation};
use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::RngAlgorithm;
use proptest::test_runner::TestRng;

#[path = "../fuzz/entry.rs"]
mod entry;

const CODECS: [Compression; 5] =
    [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

/// Batches worth damaging: every golden file of moderate size.
fn seeds() -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/batches");
    let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut seeds: Vec<Vec<u8>> = files
        .filter(|file| file.extension().is_some_and(|extension| extension == "bin"))
        .map(|file| std::fs::read(file).unwrap())
        .filter(|bytes| bytes.len() < 2000)
        .collect();
    seeds.sort();
    assert!(seeds.len() >= 18);
    seeds
}

#[test]
fn the_fuzz_target_takes_its_seeds_and_mutations_of_them() {
    let mut random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let seeds = seeds();
    for seed in &seeds {
        entry::run(seed);
        for _ in 0..2000 {
            entry::run(&mutated(seed, &seeds, &mut random));
        }
    }
}

/// A few bytes replaced by values that tend to hurt; sometimes a piece cut out, or a piece of another seed put in.
fn mutated(seed: &[u8], seeds: &[Vec<u8>], random: &mut TestRng) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=random.random_range(0..4) {
        let at = random.random_range(0..bytes.len());
        match random.random_range(0..6) {
            0 => bytes[at] = [0, 1, 2, 0x7f, 0x80, 0xff][random.random_range(0..6)],
            1 => bytes[at] ^= 1 << random.random_range(0..8),
            2 => bytes[at] = bytes[at].wrapping_add(1),
            3 => bytes[at] = random.random_range(0..=255),
            4 if bytes.len() > 62 => drop(bytes.remove(at)),
            _ => {
                let other = &seeds[random.random_range(0..seeds.len())];
                let from = random.random_range(0..other.len());
                bytes.splice(at..at, other[from..].iter().take(9).copied());
            }
        }
    }
    bytes
}

#[test]
fn any_flipped_bit_is_noticed() {
    for seed in seeds() {
        // Offset and leader epoch lie outside the CRC, for the log to write.
        for byte in (8..12).chain(16..seed.len()) {
            for bit in 0..8 {
                let mut bytes = seed.clone();
                bytes[byte] ^= 1 << bit;
                assert!(Batch::parse(bytes.into()).is_err(), "byte {byte}, bit {bit}");
            }
        }
    }
}

#[test]
fn a_batch_cut_off_anywhere_is_incomplete_and_says_so() {
    for seed in seeds() {
        let whole = Bytes::from(seed);
        for length in 0..whole.len() {
            let cut = whole.slice(..length);
            assert_eq!(Batch::split_first(&cut), Ok(None), "{length}");
            match Batch::parse(cut) {
                Err(BatchError::Truncated { need, have }) => assert!(have == length && need > have, "{length}"),
                other => panic!("{length} bytes: {other:?}"),
            }
        }
    }
}

#[test]
fn compressed_records_cut_off_anywhere_are_an_error() {
    for codec in CODECS {
        let mut builder = BatchBuilder::new().compressed(codec);
        for n in 0..20 {
            builder.push(n, Some(b"key"), Some(format!("some value that is number {n}").as_bytes()), &[]);
        }
        let whole = builder.finish().into_bytes();
        for length in 61..whole.len() {
            let mut cut = whole[..length].to_vec();
            cut[8..12].copy_from_slice(&(length as i32 - 12).to_be_bytes());
            let crc = aqueduct_record::crc32c(&cut[21..]);
            cut[17..21].copy_from_slice(&crc.to_be_bytes());
            // Without compression, too few bytes for the count are told at once.
            let read = Batch::parse(cut.into()).and_then(|batch| batch.validate(Inflation::default()));
            // An LZ4 frame ends in a mark of 4 bytes; what is cut off there has all its records.
            let whole_but_unmarked = codec == Compression::Lz4 && length + 4 >= whole.len();
            assert!(read.is_err() || whole_but_unmarked, "{codec}: {length} of {}", whole.len());
        }
    }
}

#[test]
fn a_bomb_is_an_error_and_takes_no_memory_to_tell() {
    for codec in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
        let mut builder = BatchBuilder::with_capacity(80 << 20).compressed(codec);
        let zeros = vec![0; 1 << 20];
        for _ in 0..64 {
            builder.push(0, None, Some(&zeros), &[]);
        }
        let bomb = builder.finish();
        let tight = Inflation { max_bytes: 32 << 20, max_ratio: usize::MAX, small_bytes: 0 };
        assert!(matches!(bomb.validate(tight), Err(BatchError::Inflation { limit: 33_554_432, .. })), "{codec}");
        assert_eq!(bomb.validate(Inflation { max_bytes: 128 << 20, ..tight }), Ok(()), "{codec}");
        let ratio = Inflation { max_bytes: usize::MAX, max_ratio: 10, small_bytes: 1 << 20 };
        assert!(matches!(bomb.validate(ratio), Err(BatchError::Inflation { .. })), "{codec}");
        // A thousandfold is refused by default; what snappy and LZ4 can do at most (21 and 255) is not.
        let refused = matches!(codec, Compression::Gzip | Compression::Zstd);
        assert_eq!(bomb.records().is_err(), refused, "{codec}: {} bytes", bomb.size());
    }
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        entry::run(&bytes);
    }

    #[test]
    fn random_records_behind_a_good_header_never_panic(
        section in proptest::collection::vec(prop_oneof![3 => 0..24u8, 1 => any::<u8>()], 0..200),
        count in 0..30i32,
        attributes in 0..0x80i16,
    ) {
        let mut bytes = vec![0; 61];
        bytes[21..23].copy_from_slice(&attributes.to_be_bytes());
        bytes[23..27].copy_from_slice(&100i32.to_be_bytes());
        bytes[57..61].copy_from_slice(&count.to_be_bytes());
        bytes.extend(section);
        entry::run(&bytes);
    }
}
