//! Checks limits of the process, the clock, and settings of the kernel.

use std::fs;
use std::path::Path;

use rustix::process::{Resource, getrlimit};

use super::{Finding, Status};
use crate::cli::serve::files::needed_files;
use crate::config::{Limits, Settings};

/// Checks that the hard limit of open files admits the configured connections.
pub(super) fn open_files(settings: &Settings) -> Finding {
    let wanted = settings.limits.connections;
    let needed = needed_files(settings);
    let Some(limit) = getrlimit(Resource::Nofile).maximum else {
        return Finding::ok("open files", "unlimited");
    };
    let found = format!("at most {limit}, and limits.connections = {wanted} needs {needed}");
    if limit < needed {
        let remedy = format!("set LimitNOFILE={needed} of systemd, or lower limits.connections");
        // The server lowers the default to the limit.
        let status = match wanted == Limits::default().connections {
            true => Status::Warning,
            false => Status::Error,
        };
        return Finding::bad(status, "open files", found, remedy);
    }
    Finding::ok("open files", found)
}

/// Checks the clock of this machine, which is ahead of that of the database by some seconds.
pub(super) fn clock(ahead: f64) -> Finding {
    let direction = if ahead < 0.0 { "behind" } else { "ahead of" };
    let seconds = ahead.abs();
    let found = format!("{seconds:.1} s {direction} the clock of the database");
    let remedy = "synchronize both machines, for example with chrony";
    if seconds > MAX_CLOCK_ERROR_S {
        // Servers refuse messages of each other, and tokens seem expired or not yet valid.
        Finding::bad(Status::Error, "clock", found, remedy)
    } else if seconds > CLOCK_WARNING_S {
        Finding::bad(Status::Warning, "clock", found, remedy)
    } else {
        Finding::ok("clock", found)
    }
}

/// Checks settings of the kernel below `/proc/sys/net`. Settings that it does not have are skipped.
pub(super) fn kernel(settings: &Settings, folder: &Path) -> Vec<Finding> {
    let read = |name: &str| fs::read_to_string(folder.join(name)).ok();
    let number = |name: &str| read(name)?.trim().parse::<u64>().ok();
    let mut findings = Vec::new();
    for (file, key) in [
        ("core/somaxconn", "net.core.somaxconn"),
        ("ipv4/tcp_max_syn_backlog", "net.ipv4.tcp_max_syn_backlog"),
    ] {
        let Some(found) = number(file) else { continue };
        findings.push(if found < MIN_BACKLOG {
            let what = format!("{found}: connections are refused when many clients reconnect");
            let remedy = format!("run `sysctl -w {key}=4096`, and set it in /etc/sysctl.d");
            Finding::bad(Status::Warning, key, what, remedy)
        } else {
            Finding::ok(key, found.to_string())
        });
    }
    let is_local = |network: &roomcast::network::Network| {
        network.contains(std::net::Ipv4Addr::LOCALHOST.into())
    };
    // Each connection of a proxy on this machine needs a port of its own.
    if settings.server.trusted_proxies.iter().any(is_local)
        && let Some(range) = read("ipv4/ip_local_port_range")
    {
        let mut ends = range
            .split_whitespace()
            .filter_map(|end| end.parse::<u64>().ok());
        let ports = match (ends.next(), ends.next()) {
            (Some(first), Some(last)) => last.saturating_sub(first) + 1,
            _ => 0,
        };
        let key = "net.ipv4.ip_local_port_range";
        let wanted = settings.limits.connections as u64;
        let found = format!("{ports} ports for connections of the proxy on this machine");
        findings.push(if ports < wanted.min(MAX_PORTS) {
            let remedy = format!(
                "run `sysctl -w {key}=\"1024 65535\"`, or let the proxy connect to several \
                 addresses of this machine"
            );
            Finding::bad(Status::Warning, key, found, remedy)
        } else {
            Finding::ok(key, found)
        });
    }
    findings
}

/// The difference from which servers refuse each other's messages.
const MAX_CLOCK_ERROR_S: f64 = 60.0;
/// The difference that a synchronized clock never has.
const CLOCK_WARNING_S: f64 = 2.0;
/// The queue of new connections that a reconnecting crowd needs.
const MIN_BACKLOG: u64 = 1024;
/// The ports of `1024 65535`.
const MAX_PORTS: u64 = 64_512;
