//! Ports for servers that are started by others and must be told where to listen.

#![allow(dead_code, unreachable_pub, reason = "a module of several binaries")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

/// Where the ports begin. Below are those of the servers of `tests/servers`, which look for some in a row.
const FIRST: u16 = 20_000;

/// A port of the loopback address that nobody is given but who asks here, so that it is free until its server listens,
/// and while that is down: it is none of those from which the kernel takes one for who asks for any, if that leaves some,
/// and each is given once. Each process begins elsewhere.
pub fn free_port() -> u16 {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    let count = u32::from(first_of_the_kernel().saturating_sub(FIRST));
    // As far from where the next process begins as any gets.
    let start = process::id().wrapping_mul(211);
    for _ in 0..count {
        let given = GIVEN.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + (start.wrapping_add(given) % count) as u16;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    let any = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    any.local_addr().unwrap().port()
}

/// The first of the ports that the kernel gives to who asks for any.
fn first_of_the_kernel() -> u16 {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let first = range.split_whitespace().next();
    // Without that file, what Linux does by default.
    first.and_then(|first| first.parse().ok()).unwrap_or(32_768)
}
