//! The transforms that people write in YAML: programs, filters and routes.
