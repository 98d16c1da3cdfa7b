//! Who is at the other end of a connection, and what it may do.

pub(crate) mod principal;
pub(crate) mod rights;
pub(crate) mod stream;
