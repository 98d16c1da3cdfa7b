//! Files as a source: tailed, rotated, compressed, each line once and in order.
//!
//! - [`FileSettings`]: what people declare.
//! - `walk` finds the files, `catalog` knows where each of them is now, by what `compare` says of the ones that turned up, a
//!   `tail` is what is known of one of them and `progress` what is saved of it; `content` reads bytes (inflated where
//!   compressed), `framing` makes records of them, and `source` takes turns.

mod catalog;
mod compare;
mod content;
mod framing;
mod progress;
mod settings;
mod source;
mod tail;
mod walk;

pub use settings::{Compressed, FileSettings, Framing, HeaderName, Multiline, Start};
