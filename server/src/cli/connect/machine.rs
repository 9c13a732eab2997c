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

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the findings for these files below `/proc/sys/net`.
    fn found(settings: &Settings, files: &[(&str, &str)]) -> Vec<(String, Status)> {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let findings = kernel(settings, folder.path()).into_iter();
        let findings = findings.inspect(|finding| {
            let has_remedy = finding
                .remedy
                .as_ref()
                .is_some_and(|remedy| remedy.contains(&format!("sysctl -w {}=", finding.subject)));
            assert_eq!(has_remedy, finding.status != Status::Ok, "{finding:?}");
        });
        findings
            .map(|found| (found.subject, found.status))
            .collect()
    }

    #[test]
    fn short_queues_of_new_connections_are_warned_about() {
        let settings = Settings::default();
        assert_eq!(found(&settings, &[]), []);
        for (file, key) in [
            ("core/somaxconn", "net.core.somaxconn"),
            ("ipv4/tcp_max_syn_backlog", "net.ipv4.tcp_max_syn_backlog"),
        ] {
            for (value, status) in [("1023\n", Status::Warning), ("1024\n", Status::Ok)] {
                let findings = found(&settings, &[(file, value)]);
                assert_eq!(findings, [(key.to_owned(), status)], "{value}");
            }
        }
    }

    #[test]
    fn a_proxy_on_this_machine_needs_a_port_for_each_connection() {
        let range = "ipv4/ip_local_port_range";
        let mut settings = Settings::default();
        settings.limits.connections = 1000;
        assert_eq!(found(&settings, &[(range, "1024 1025")]), [], "no proxy");
        settings.server.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
        for (ports, connections, status) in [
            ("32768\t33767\n", 1000, Status::Ok),
            ("32768\t33766\n", 1000, Status::Warning),
            // Linux has no more ports than these.
            ("1024\t65535\n", 1_000_000, Status::Ok),
        ] {
            settings.limits.connections = connections;
            let key = "net.ipv4.ip_local_port_range".to_owned();
            assert_eq!(
                found(&settings, &[(range, ports)]),
                [(key, status)],
                "{ports}"
            );
        }
    }

    #[test]
    fn clocks_that_differ_are_reported_by_their_difference() {
        for (ahead, status, text) in [
            (-2.0, Status::Ok, "2.0 s behind the clock"),
            (2.1, Status::Warning, "2.1 s ahead of the clock"),
            (-60.0, Status::Warning, "60.0 s behind the clock"),
            (60.1, Status::Error, "60.1 s ahead of the clock"),
        ] {
            let finding = clock(ahead);
            assert_eq!(finding.status, status, "{ahead}");
            assert!(finding.found.contains(text), "{}", finding.found);
        }
    }
}
