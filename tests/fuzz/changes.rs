//! How inputs are changed: as lists of frames that stay such lists, since few changes of a length lead anywhere. libFuzzer
//! changes what is in a frame.

use aqueduct_record::{Header, crc32c};

use crate::entry::listed;
use crate::outside::{STEP, splitmix};

/// Frames that a list may have.
const MOST: usize = 8;
/// What all APIs begin with: API, version and number.
const HEADER: usize = 8;
/// Bytes that libFuzzer may add to a frame.
const MORE: usize = 256;
/// Requests to write records.
const PRODUCE: [u8; 2] = [0, 0];

/// An input that differs from the one of `size` bytes at the beginning of `bytes`, in its place: how long it is.
pub(crate) fn changed(bytes: &mut [u8], size: usize, seed: u32) -> usize {
    let mut dice = Dice(u64::from(seed));
    let (mut whom, list) = bytes[..size].split_first().map_or((0, &[][..]), |(whom, list)| (*whom, list));
    let mut frames = listed(list);
    match dice.below(16) {
        0 => whom ^= 1,
        1 | 2 if frames.len() < MOST => {
            let known = listed(include_bytes!("frames.bin"));
            frames.insert(dice.below(frames.len() + 1), known[dice.below(known.len())].clone());
        }
        // Whoever asks next is another client.
        3 if frames.len() < MOST => frames.insert(dice.below(frames.len() + 1), Vec::new()),
        4 if frames.len() > 1 => drop(frames.remove(dice.below(frames.len()))),
        5 if frames.len() > 1 => {
            let (one, other) = (dice.below(frames.len()), dice.below(frames.len()));
            frames.swap(one, other);
        }
        6 if !frames.is_empty() && frames.len() < MOST => frames.push(frames[dice.below(frames.len())].clone()),
        _ if frames.is_empty() => frames.push(vec![0; HEADER]),
        _ => {
            let at = dice.below(frames.len());
            change(&mut frames[at], &mut dice);
        }
    }
    let mut list = vec![whom];
    for frame in &frames {
        list.extend((frame.len() as u32).to_be_bytes());
        list.extend(frame);
    }
    let size = list.len().min(bytes.len());
    bytes[..size].copy_from_slice(&list[..size]);
    size
}

/// What a frame asks for stays mostly the same.
fn change(frame: &mut Vec<u8>, dice: &mut Dice) {
    let from = if dice.below(10) == 0 { 0 } else { HEADER.min(frame.len()) };
    let mut rest = frame.split_off(from);
    let length = rest.len();
    rest.resize(length + MORE, 0);
    let changed = libfuzzer_sys::fuzzer_mutate(&mut rest, length, length + MORE);
    frame.extend(&rest[..changed]);
    if frame.starts_with(&PRODUCE) && dice.below(4) != 0 {
        repair(frame);
    }
}

/// Puts right the checksums of what may be batches, so that what lies behind those is reached too.
fn repair(frame: &mut [u8]) {
    for at in HEADER..frame.len().saturating_sub(Header::LEN) {
        let batch = &mut frame[at..];
        let length = i32::from_be_bytes([batch[8], batch[9], batch[10], batch[11]]);
        let end = usize::try_from(length).map_or(usize::MAX, |length| length.saturating_add(12));
        if batch[16] == 2 && (Header::LEN..=batch.len()).contains(&end) {
            let crc = crc32c(&batch[21..end]);
            batch[17..21].copy_from_slice(&crc.to_be_bytes());
        }
    }
}

struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(STEP);
        (splitmix(self.0) % end as u64) as usize
    }
}
