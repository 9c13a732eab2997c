//! Who runs where.

use std::process::Command;

/// The cores of the three that work at the same time, in the words of `taskset`.
pub struct Cores {
    pub server: String,
    pub generator: String,
    /// Where there are only two, it shares that of the generator.
    pub database: String,
}

/// The first core is the server's alone.
pub fn cores() -> Cores {
    let last = std::thread::available_parallelism().map_or(1, usize::from) - 1;
    let others = match last {
        0 => "0".to_owned(),
        last => format!("1-{last}"),
    };
    Cores {
        server: "0".to_owned(),
        generator: last.to_string(),
        database: others,
    }
}

/// A command that runs on these cores, and ends with this process, however that ends.
pub fn command(cores: &str, program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "taskset", "-c", cores, program]);
    command
}

/// Moves a process, with what it starts from now on.
pub fn pin(process: i32, cores: &str) {
    let moved = Command::new("taskset")
        .args(["-a", "-c", "-p", cores, &process.to_string()])
        .output()
        .expect("taskset is there");
    assert!(moved.status.success(), "taskset: {moved:?}");
}
