//! Ports for servers that must be configured with their port.

#![allow(dead_code, unreachable_pub, reason = "a module of several binaries")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

/// First port of the range. The servers of `tests/servers` use lower ports, of which they need
/// several in a row.
const FIRST: u16 = 20_000;

/// Returns a loopback port that stays free until its server listens, and while that server is down.
///
/// The port is outside the range from which the kernel assigns ports, if that range leaves any.
/// Each port is returned once, and each process starts elsewhere.
pub fn free_port() -> u16 {
    static RESERVED: AtomicU32 = AtomicU32::new(0);
    let count = u32::from(first_of_the_kernel().saturating_sub(FIRST));
    // Spreads the starts of consecutive process ids.
    let start = process::id().wrapping_mul(211);
    for _ in 0..count {
        let offset = RESERVED.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + (start.wrapping_add(offset) % count) as u16;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    let any = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    any.local_addr().unwrap().port()
}

/// Returns the first port of the range from which the kernel assigns ports.
fn first_of_the_kernel() -> u16 {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let first = range.split_whitespace().next();
    // Without that file, the default of Linux.
    first.and_then(|first| first.parse().ok()).unwrap_or(32_768)
}
