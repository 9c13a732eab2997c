//! Assigns processes to cores.

#![allow(dead_code, reason = "each bench uses its part")]

use std::process::Command;

use rustix::{
    param::{clock_ticks_per_second, page_size},
    process::Pid,
};

/// The cores of the three concurrent processes, as arguments of `taskset`.
pub struct Cores {
    pub server: String,
    pub generator: String,
    /// All but the first of several cores, so also that of the generator.
    pub database: String,
}

/// Returns the assignment: the server has the first of several cores to itself.
pub fn cores() -> Cores {
    let last = std::thread::available_parallelism().map_or(1, usize::from) - 1;
    let rest = match last {
        0 => "0".to_owned(),
        last => format!("1-{last}"),
    };
    Cores {
        server: "0".to_owned(),
        generator: last.to_string(),
        database: rest,
    }
}

/// Returns a command that runs on these cores, and is killed when this process ends.
pub fn command(cores: &str, program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "taskset", "-c", cores, program]);
    command
}

/// Moves a process and its future children to these cores.
pub fn pin(process: Pid, cores: &str) {
    let moved = Command::new("taskset")
        .args(["-a", "-c", "-p", cores, &process.to_string()])
        .output()
        .expect("taskset is there");
    assert!(moved.status.success(), "taskset: {moved:?}");
}

/// Returns the processor time that processes have used since they began, in seconds.
pub fn worked(processes: &[Pid]) -> f64 {
    let ticks = |process: &Pid| {
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        // The name in parentheses may contain anything. User and system time are eleven columns
        // after it.
        let mut columns = stat.rsplit(") ").next()?.split(' ').skip(11);
        let mut next = || columns.next()?.parse::<u64>().ok();
        Some(next()? + next()?)
    };
    let all: u64 = processes.iter().filter_map(ticks).sum();
    all as f64 / clock_ticks_per_second() as f64
}

/// Returns the resident memory of a process in bytes.
pub fn resident(process: Pid) -> usize {
    let statm = std::fs::read_to_string(format!("/proc/{process}/statm")).unwrap();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok());
    pages.unwrap_or(0) * page_size()
}
