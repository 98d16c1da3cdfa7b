//! The transforms that people write in YAML: programs, filters and routes.
//!
//! - [`Vrl`]: makes records of a record with a program in the Vector Remap Language.
//! - [`Filter`]: keeps the records for which a condition is true.
//! - [`Route`]: says by record which topic it goes to.
//!
//! All three are expressions of the one language, compiled once, over the same event, with the same functions: those
//! whose result depends on their arguments alone.

mod event;
mod filter;
mod functions;
mod guarded;
mod program;
mod route;
mod settle;
mod syslog;
mod vrl;

pub use filter::Filter;
pub use program::changes_topic;
pub use route::Route;
pub use vrl::Vrl;
