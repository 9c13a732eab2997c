//! Reads the processor time and the memory of a process.

use std::{fs, time::Duration};

/// The resource usage of a process at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Process {
    /// User and system time of all its threads.
    pub(crate) cpu: Duration,
    /// Resident memory in bytes.
    pub(crate) rss: u64,
}

impl Process {
    /// Reads the usage of a process; `None` if it does not exist or the system does not provide the
    /// data.
    pub(crate) fn look(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        Self::parse(&stat, &status, rustix::param::clock_ticks_per_second())
    }

    /// Reads the usage of this process.
    pub(crate) fn own() -> Option<Self> {
        Self::look(std::process::id())
    }

    fn parse(stat: &str, status: &str, ticks_per_second: u64) -> Option<Self> {
        // The second field is a name in brackets, which may contain any characters.
        let (_, fields) = stat.rsplit_once(") ")?;
        // User and system time are fields 14 and 15 (proc_pid_stat(5)). The first remaining field
        // is field 3.
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

/// The usage of the server and of this process at the relevant moments.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Samples {
    /// The server before the first client.
    pub(crate) empty: Option<Process>,
    /// The server when all clients were connected.
    pub(crate) full: Option<Process>,
    /// The server and this process when the measured time began.
    pub(crate) begin: Option<Processes>,
    /// The server and this process when the measured time ended.
    pub(crate) end: Option<Processes>,
}

type Processes = (Option<Process>, Option<Process>);

impl Samples {
    /// Returns the processor seconds of the server and of this process during the measured time.
    pub(crate) fn cpu(&self) -> [Option<f64>; 2] {
        let (begin, end) = (self.begin.unwrap_or_default(), self.end.unwrap_or_default());
        [(begin.0, end.0), (begin.1, end.1)].map(|(begin, end)| {
            let cpu = end?.cpu.saturating_sub(begin?.cpu);
            Some(cpu.as_secs_f64())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_and_memory_are_read_from_proc() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 1 0 5 6 7";
        let status = "Name:\tx\nVmPeak:\t 9 kB\nVmRSS:\t    2048 kB\nThreads:\t1\n";
        let process = Process::parse(stat, status, 100).unwrap();
        assert_eq!(process.cpu, Duration::from_secs(3));
        assert_eq!(process.rss, 2 << 20);
        assert_eq!(Process::parse("42 (x) S 1", status, 100), None);
        assert_eq!(Process::parse(stat, "", 100), None);
    }

    #[test]
    fn own_process_is_measurable() {
        let me = Process::own().unwrap();
        assert!(me.rss > 0);
    }
}
