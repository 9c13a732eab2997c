//! `roomcast completions` and `roomcast man`, both generated from the arguments.

use std::process::ExitCode;

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::Arguments;
use super::output::{errln, out};

/// Arguments of `completions`.
#[derive(Clone, Debug, Args)]
pub(super) struct Completions {
    /// The shell that reads the completions.
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the completions.
pub(super) fn completions(completions: &Completions) -> ExitCode {
    let mut text = Vec::new();
    let mut command = Arguments::command();
    clap_complete::generate(completions.shell, &mut command, "roomcast", &mut text);
    print(&text)
}

/// Prints the manual page: the synopsis and the options, then each command with its own.
pub(super) fn page() -> ExitCode {
    let mut command = Arguments::command();
    command.build();
    let mut text = Vec::new();
    let mut written = clap_mangen::Man::new(command.clone()).render(&mut text);
    for inner in command.get_subcommands() {
        let name = format!("roomcast {}", inner.get_name());
        let section = clap_mangen::Man::new(
            inner
                .clone()
                .bin_name(name)
                .display_name(inner.get_name().to_owned()),
        );
        written = written
            .and_then(|()| section.render_name_section(&mut text))
            .and_then(|()| section.render_synopsis_section(&mut text))
            .and_then(|()| section.render_options_section(&mut text));
    }
    match written {
        Ok(()) => print(&text),
        Err(error) => {
            errln!("roomcast: {error}");
            ExitCode::FAILURE
        }
    }
}

fn print(text: &[u8]) -> ExitCode {
    out!("{}", String::from_utf8_lossy(text));
    ExitCode::SUCCESS
}
