//! The log on a real disk, after what disks and people do to its files.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod cleaning;
mod damage;
mod deletion;
mod faults;
mod faulty;
mod folder;
mod full;
mod members;
mod opened;
mod producers;
mod recovery;
mod stretches;
mod transactional_offsets;
mod transactions;
