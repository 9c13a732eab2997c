//! The metrics of the process. Names that begin with `process_` are those of Prometheus' own client
//! libraries.
//!
//! They are read from the operating system for each scrape. A value that cannot be read has no row.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
};

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
            "Memory that the process may use: the lowest limit of its control groups (container, MemoryMax= of systemd), or the memory of the machine if it is less.",
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

/// Returns the lowest memory limit of the control groups, or the memory of the machine if it is
/// smaller.
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
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_else(|_| ROOT_GROUPS.to_owned());
    let limits = limit_files(&groups).filter_map(|path| {
        let limit = fs::read_to_string(path).ok()?;
        limit.trim().parse::<u64>().ok()
    });
    limits.chain(machine).min()
}

/// Returns the files that can have a memory limit, given the text of `/proc/self/cgroup`: those of
/// the groups of the process and of all groups above.
///
/// In a container, only the file of the root may exist, with the limit of the container.
fn limit_files(groups: &str) -> impl Iterator<Item = PathBuf> {
    let groups = groups.lines().filter_map(|line| {
        // A line has a number, the controllers (none for version 2), and the path of the group.
        let (_, rest) = line.split_once(':')?;
        let (controllers, group) = rest.split_once(':')?;
        if controllers.is_empty() {
            Some((group, "/sys/fs/cgroup", "memory.max"))
        } else if controllers.split(',').any(|name| name == "memory") {
            Some((group, "/sys/fs/cgroup/memory", "memory.limit_in_bytes"))
        } else {
            None
        }
    });
    groups.flat_map(|(group, root, file)| {
        // A path with `..` names a group outside of this namespace of groups.
        let group = if group.split('/').any(|name| name == "..") {
            "/"
        } else {
            group
        };
        let folders = Path::new(group).ancestors();
        let folders = folders.filter_map(|folder| folder.strip_prefix("/").ok());
        folders.map(move |folder| Path::new(root).join(folder).join(file))
    })
}

const DESCRIPTORS: &str = "/proc/self/fd";
/// The groups of a process that cannot read its own.
const ROOT_GROUPS: &str = "0::/\n1:memory:/";

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

    #[test]
    fn limits_of_the_own_group_and_of_each_above_are_read() {
        let files = |groups| limit_files(groups).collect::<Vec<_>>();
        let service = "0::/system.slice/roomcast.service";
        let expected = [
            "/sys/fs/cgroup/system.slice/roomcast.service/memory.max",
            "/sys/fs/cgroup/system.slice/memory.max",
            "/sys/fs/cgroup/memory.max",
        ];
        assert_eq!(files(service), expected.map(PathBuf::from));
        // Version 1 besides version 2, as systemd mounts them in hybrid mode.
        let hybrid = "9:name=systemd:/a\n5:cpu,memory:/b:c\n3:cpuset:/\n0::/\n";
        let expected = [
            "/sys/fs/cgroup/memory/b:c/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory.max",
        ];
        assert_eq!(files(hybrid), expected.map(PathBuf::from));
        let roots = [
            "/sys/fs/cgroup/memory.max",
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        ];
        assert_eq!(files(ROOT_GROUPS), roots.map(PathBuf::from));
        assert_eq!(files("0::/../outside"), [PathBuf::from(roots[0])]);
        assert_eq!(files("no line of a group\n0:"), [] as [PathBuf; 0]);
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
