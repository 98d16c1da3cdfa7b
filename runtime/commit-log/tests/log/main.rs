//! The log on a real disk, after what disks and people do to its files.

mod cleaning;
mod damage;
mod faults;
mod folder;
mod opened;
mod recovery;
