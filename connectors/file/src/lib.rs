//! Files as a source: tailed, rotated, compressed, each line once and in order; and as a sink: appended to, exactly once.
//!
//! - [`FileSettings`]: what people declare of a source, [`FileSinkSettings`] of a sink.
//! - `walk` finds the files, `catalog` knows where each of them is now, by what `compare` says of the ones that turned up, a
//!   `tail` is what is known of one of them and `progress` what is saved of it, under the `identity` of the file; `content` reads bytes (inflated where
//!   compressed), `framing` makes records of them, `source` takes turns, `beginning` is where it starts, and `told` keeps it
//!   from saying twice what can not be read.
//! - `sink` collects a chunk's records by their files, which `sink_name` names and `sink_format` fills; `sink_writing` appends
//!   them, after `sink_journal` noted how long the files were.

mod beginning;
mod catalog;
mod compare;
mod content;
mod framing;
mod identity;
mod progress;
mod settings;
mod sink;
mod sink_format;
mod sink_journal;
mod sink_name;
mod sink_settings;
mod sink_writing;
mod source;
mod tail;
mod told;
mod walk;

pub use settings::{Compressed, FileSettings, Framing, HeaderName, Multiline, Start};
pub use sink_format::{FileCompression, FileFormat};
pub use sink_settings::{FileSinkSettings, Roll};
