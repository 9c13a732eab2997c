//! The `roomcast` server.

fn main() {}
