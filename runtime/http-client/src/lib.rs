//! What every client of an HTTP server needs: proof of who it is, answers with a bound, and failures told for people.
//!
//! - [`Credentials`]: the header that proves who we are; with [`OAuth2`] from a [`Token`] that is fetched, kept, and
//!   fetched anew.
//! - [`limited`], [`told`], [`excerpt`]: what a server said, and why it said nothing.

mod answer;
mod credentials;
mod escape;
mod oauth2;

pub use answer::{excerpt, limited, told};
pub use credentials::{Credentials, Header};
pub use escape::percent;
pub use oauth2::{OAuth2, Token};
