//! Takes records from HTTP clients, and delivers records to HTTP servers.
