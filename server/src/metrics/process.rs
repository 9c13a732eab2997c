//! The metrics of the process. Names that begin with `process_` are those of Prometheus' own client
//! libraries.
//!
//! They are read from the operating system for each scrape. A value that cannot be read has no row.

use std::{fs, thread};

use roomcast::metrics::Exposition;
use rustix::{
    param::{clock_ticks_per_second, page_size},
    process::{Resource, getrlimit},
};

/// Writes the metrics of this process.
pub(crate) fn expose(out: &mut Exposition) {
    if let Some(usage) = fs::read_to_string("/proc/self/stat")
        .ok()
        .and_then(|stat| Usage::parse(&stat))
    {
        let ticks = clock_ticks_per_second() as f64;
        out.total(
            "process_cpu_seconds_total",
            "User and system processor time of the process.",
            usage.ticks as f64 / ticks,
        );
        out.gauge(
            "process_resident_memory_bytes",
            "Memory of the process that is in RAM.",
            usage.resident_pages.saturating_mul(page_size() as u64),
        );
        out.gauge(
            "process_virtual_memory_bytes",
            "Size of the address space of the process.",
            usage.virtual_bytes,
        );
        if let Some(boot) = boot_time() {
            out.gauge(
                "process_start_time_seconds",
                "Time at which the process started, in seconds since 1970.",
                boot as f64 + usage.started_ticks as f64 / ticks,
            );
        }
    }
    if let Some(count) = open_descriptors() {
        out.gauge(
            "process_open_fds",
            "Open file descriptors of the process.",
            count,
        );
    }
    if let Some(max) = getrlimit(Resource::Nofile).current {
        out.gauge(
            "process_max_fds",
            "Maximum number of file descriptors that the process may open.",
            max,
        );
    }
    if let Ok(processors) = thread::available_parallelism() {
        out.gauge(
            "roomcast_processors",
            "Processors that the process may use.",
            processors,
        );
    }
    if let Some(limit) = memory_limit() {
        out.gauge(
            "roomcast_memory_limit_bytes",
            "Memory that the process may use: that of its container or of the machine, whichever is less.",
            limit,
        );
    }
}

/// The figures of `/proc/self/stat`.
#[derive(Debug, PartialEq, Eq)]
struct Usage {
    /// User and system time.
    ticks: u64,
    /// The time from the boot of the machine to the start of the process.
    started_ticks: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

impl Usage {
    fn parse(stat: &str) -> Option<Self> {
        // The name, in parentheses, can contain any character. The third field follows it.
        let (_, rest) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self {
            ticks: field(14)? + field(15)?,
            started_ticks: field(22)?,
            virtual_bytes: field(23)?,
            resident_pages: field(24)?,
        })
    }
}

/// Returns the number of open file descriptors.
fn open_descriptors() -> Option<u64> {
    // Since Linux 6.2 the size is their number. Listing 10,000 descriptors takes milliseconds.
    let size = fs::metadata(DESCRIPTORS).ok()?.len();
    if size > 0 {
        return Some(size);
    }
    // The descriptor of the folder itself is not counted.
    let count = fs::read_dir(DESCRIPTORS).ok()?.count().saturating_sub(1);
    Some(count as u64)
}

/// Returns when the machine was booted, in seconds since 1970.
fn boot_time() -> Option<u64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.trim().parse().ok()
}

/// Returns the memory of the control group, or that of the machine if it is smaller.
fn memory_limit() -> Option<u64> {
    let info = fs::read_to_string("/proc/meminfo").ok();
    let machine = info.and_then(|info| {
        let line = info
            .lines()
            .find_map(|line| line.strip_prefix("MemTotal:"))?;
        let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
        Some(kibibytes * 1024)
    });
    // A group without a limit has the text `max`, or a number above the memory of the machine.
    let groups = CGROUP_LIMITS.iter().filter_map(|path| {
        let limit = fs::read_to_string(path).ok()?;
        limit.trim().parse::<u64>().ok()
    });
    groups.chain(machine).min()
}

const DESCRIPTORS: &str = "/proc/self/fd";
/// The limits of the control group of a container: version 2, version 1.
const CGROUP_LIMITS: [&str; 2] = [
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_name_with_spaces_and_parentheses_is_skipped() {
        let rest = "S 1 2 3 4 5 6 7 8 9 10 100 23 13 14 15 16 17 18 5000 8192 77 0";
        let expected = Usage {
            ticks: 123,
            started_ticks: 5000,
            virtual_bytes: 8192,
            resident_pages: 77,
        };
        for name in ["roomcast", "a b) c", "(("] {
            let usage = Usage::parse(&format!("12 ({name}) {rest}"));
            assert_eq!(usage.as_ref(), Some(&expected), "{name}");
        }
        for broken in ["", "12 (roomcast", "12 (roomcast) S 1 2"] {
            assert_eq!(Usage::parse(broken), None, "{broken}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_own_process_has_every_metric() {
        let mut out = Exposition::default();
        expose(&mut out);
        let text = out.to_string();
        for name in [
            "process_cpu_seconds_total",
            "process_resident_memory_bytes",
            "process_virtual_memory_bytes",
            "process_start_time_seconds",
            "process_open_fds",
            "process_max_fds",
            "roomcast_processors",
            "roomcast_memory_limit_bytes",
        ] {
            let row = text
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            let value: f64 = row
                .unwrap_or_else(|| panic!("{name}: {text}"))
                .parse()
                .unwrap();
            assert!(value >= 0.0, "{name}: {value}");
        }
    }
}
