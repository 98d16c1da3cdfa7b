//! How far bytes that nobody vouches for are followed.

/// The deepest nesting of values in values. JSON is read 128 levels deep at most, here and by what comes after.
pub(crate) const DEEPEST: usize = 100;

/// The most bytes that one part of one record becomes.
pub(crate) const LARGEST: usize = 64 << 20;

/// The most bytes of an answer of a registry, and of a file with a schema.
pub(crate) const LARGEST_SCHEMA: usize = 4 << 20;

/// The most schemas that one schema refers to, directly or not.
pub(crate) const MOST_REFERENCES: usize = 200;

/// The most bytes of JSON schemas and all they refer to, and so on.
pub(crate) const LARGEST_SCHEMAS: usize = 16 << 20;

/// The most bytes of schemas' texts that are kept in memory.
pub(crate) const LARGEST_KEPT: usize = 64 << 20;
