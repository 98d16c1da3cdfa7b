//! The binary `aqueduct`.

fn main() {}
