//! What the operating system says: open files, and the time and memory of a process.

use std::{fs, time::Duration};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit of open files as far as this process may.
///
/// # Errors
/// If that is not far enough: how many there may be.
pub(super) fn allow_open_files(needed: u64) -> Result<(), u64> {
    let limit = getrlimit(Resource::Nofile);
    let (current, maximum) = (
        limit.current.unwrap_or(u64::MAX),
        limit.maximum.unwrap_or(u64::MAX),
    );
    if current < maximum {
        let raised = Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        };
        if setrlimit(Resource::Nofile, raised).is_err() && current < needed {
            return Err(current);
        }
    }
    if maximum < needed {
        Err(maximum)
    } else {
        Ok(())
    }
}

/// A process at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Process {
    /// User and system time of all its threads.
    pub(super) cpu: Duration,
    /// Resident memory in bytes.
    pub(super) rss: u64,
}

impl Process {
    /// Looks at a process; `None` if there is none or the system does not tell.
    pub(super) fn look(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        Self::parse(&stat, &status, rustix::param::clock_ticks_per_second())
    }

    /// Ourselves.
    pub(super) fn own() -> Option<Self> {
        Self::look(std::process::id())
    }

    fn parse(stat: &str, status: &str, ticks_per_second: u64) -> Option<Self> {
        // The second field is a name in brackets, which may hold anything.
        let (_, fields) = stat.rsplit_once(") ")?;
        let mut fields = fields.split(' ').skip(11);
        let mut ticks = || fields.next()?.parse::<u64>().ok();
        let ticks = ticks()? + ticks()?;
        let rss = status.lines().find_map(|line| {
            let kibibytes = line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?;
            kibibytes.trim().parse::<u64>().ok()
        })?;
        Some(Self {
            cpu: Duration::from_secs_f64(ticks as f64 / ticks_per_second.max(1) as f64),
            rss: rss * 1024,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_and_memory_stand_in_proc() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 1 0 5 6 7";
        let status = "Name:\tx\nVmPeak:\t 9 kB\nVmRSS:\t    2048 kB\nThreads:\t1\n";
        let process = Process::parse(stat, status, 100).unwrap();
        assert_eq!(process.cpu, Duration::from_secs(3));
        assert_eq!(process.rss, 2 << 20);
        assert_eq!(Process::parse("42 (x) S 1", status, 100), None);
        assert_eq!(Process::parse(stat, "", 100), None);
    }

    #[test]
    fn our_own_process_can_be_looked_at() {
        let me = Process::own().unwrap();
        assert!(me.rss > 0);
    }

    #[test]
    fn more_files_than_may_be_open_are_refused() {
        let limit = allow_open_files(u64::MAX - 1);
        let hard = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
        assert_eq!(limit.err(), (hard < u64::MAX - 1).then_some(hard));
        assert_eq!(allow_open_files(1), Ok(()));
    }
}
