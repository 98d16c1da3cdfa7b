//! Files as a source: tailed, rotated, compressed, each line once and in order.
//!
//! - [`FileSettings`]: what people declare.
//! - `walk` finds the files, `catalog` knows which of them are new, renamed, copied or truncated, `progress` is what is saved
//!   of each, `content` reads bytes (inflated where compressed), `framing` makes records of them, and `source` takes turns.

mod catalog;
mod content;
mod framing;
mod progress;
mod settings;
mod source;
mod walk;

pub use settings::{Compressed, FileSettings, Framing, HeaderName, Multiline, Start};
