//! Output of commands. A closed pipe, as in `roomcast catalog | head`, ends the command silently.

use std::{
    fmt,
    io::{self, ErrorKind, Write as _},
    process::{self, ExitCode},
};

use serde_json::json;

/// Prints to standard output.
macro_rules! out {
    ($($argument:tt)*) => { $crate::cli::output::print(format_args!($($argument)*)) };
}

/// Prints a line to standard output.
macro_rules! outln {
    ($($argument:tt)*) => { $crate::cli::output::print(format_args!("{}\n", format_args!($($argument)*))) };
}

/// Prints a line to standard error.
macro_rules! errln {
    ($($argument:tt)*) => { $crate::cli::output::complain(format_args!($($argument)*)) };
}

pub(super) use {errln, out, outln};

/// Reports why a command failed, and returns its exit code.
///
/// A command with `--json` prints one JSON object to standard output, where its result would be.
/// Any other command prints a line to standard error.
pub(super) fn fail(json: bool, error: impl fmt::Display, code: u8) -> ExitCode {
    if json {
        let failure = json!({"error": error.to_string(), "exitCode": code});
        outln!("{failure:#}");
    } else {
        errln!("roomcast: {error}");
    }
    ExitCode::from(code)
}

/// Prints to standard output, or ends the process if that fails.
pub(super) fn print(text: fmt::Arguments<'_>) {
    let mut stdout = io::stdout().lock();
    if let Err(error) = stdout.write_fmt(text).and_then(|()| stdout.flush()) {
        end(&error);
    }
}

/// Prints a line to standard error. Ignores failures.
pub(super) fn complain(text: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Ends the process because standard output cannot be written.
pub(super) fn end(error: &io::Error) -> ! {
    // The reader has closed the pipe, which is not a failure.
    if error.kind() == ErrorKind::BrokenPipe {
        process::exit(0);
    }
    complain(format_args!("roomcast: cannot write: {error}"));
    process::exit(1);
}
