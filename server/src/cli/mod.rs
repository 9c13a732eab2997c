//! The command line: arguments and commands.
//!
//! Only the binary calls this module. Each file has one command or a few similar ones. `settings`
//! loads the configuration, `manual` prints completions and the manual page, `log` starts logging,
//! and `remote` calls a running server. Commands use the composition root, the store and the
//! services; this module must not contain rules of the product.

mod bench;
mod catalog;
mod connect;
mod database;
mod identity;
mod log;
mod manual;
mod output;
mod progress;
mod remote;
mod serve;
mod settings;

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};
use serde_json::json;
use toml::Table;

use self::database::{copies, export, migrate};
use self::output::{errln, fail, out, outln};
use self::settings::{Configuration, Mistake, Overrides};
use crate::{
    auth::configured,
    config::{Profile, Settings},
    service::{Kinds, undeclared_roles},
};

/// A Socket.IO server with a chat.
#[derive(Debug, Parser)]
#[command(name = "roomcast", version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,

    /// Configuration file (TOML).
    #[arg(long, short, global = true, env = "ROOMCAST_CONFIG")]
    config: Option<PathBuf>,

    /// File of environment variables, `NAME=VALUE` without quotes, one in each line. They override
    /// those of the process, and are read again by a reload.
    #[arg(long, global = true, value_name = "FILE", env = "ROOMCAST_ENV_FILE")]
    env_file: Option<PathBuf>,

    /// Address to listen on; `server.listen`.
    #[arg(long, global = true)]
    listen: Option<SocketAddr>,

    /// Store of messages: `postgres://…`, `sqlite:PATH` or `memory:`; `store.url`.
    #[arg(long, global = true)]
    store: Option<String>,

    /// `development` or `production`; `server.profile`.
    #[arg(long, global = true, value_parser = settings::parse_profile)]
    profile: Option<Profile>,

    /// Log filter, such as `info` or `roomcast=debug`; `log.level`.
    #[arg(long, global = true)]
    log: Option<String>,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// Run the server (the default).
    Serve,
    /// Migrate the database to the schema of this version; several processes may do so at the same
    /// time.
    Migrate(migrate::Migrate),
    /// Write a conversation with all its messages to a file or to standard output, also while the
    /// server runs.
    Export(export::Export),
    /// Copy the SQLite database to a file, also while the server runs.
    Backup(copies::BackUp),
    /// Replace the SQLite database by a file that `backup` made, while no server runs.
    Restore(copies::Restore),
    /// Check whether the configuration is valid, and report all mistakes.
    CheckConfig(CheckConfig),
    /// Print the configuration in force, as TOML, or all keys with their descriptions.
    PrintConfig(PrintConfig),
    /// Measure Roomcast or any other Socket.IO server.
    Bench(Box<bench::BenchArguments>),
    /// Print a token for a user, signed with the configured key.
    Token(identity::Token),
    /// Print the catalogue of events with payloads, answers, permissions and limits.
    Catalog(catalog::Catalog),
    /// Explain why a user may or may not send an event, and by which rule.
    Explain(identity::Explain),
    /// Call any route of the HTTP API of a running server, and print the answer.
    Call(remote::CallArguments),
    /// Publish an event to a room or to everyone, through a running server or an adapter.
    Emit(remote::EmitArguments),
    /// Publish to a channel of a running server, read it, or change who follows it.
    Channel(remote::ChannelArguments),
    /// Send standard input as a message of a user while it is written, for example by a language
    /// model.
    Stream(remote::StreamArguments),
    #[command(flatten)]
    Route(remote::RouteCommand),
    /// Show what happens to a user, a socket or a conversation on a running server and its cluster,
    /// one line of JSON for each step.
    Trace(remote::TraceArguments),
    /// Check whether a running server is ready for clients: the health check of a container.
    Health(remote::HealthArguments),
    /// Print the completions of this command line for a shell.
    Completions(manual::Completions),
    /// Print the manual page, in the format of man(7).
    Man,
}

/// Arguments of `check-config`.
#[derive(Clone, Debug, Args)]
struct CheckConfig {
    /// Also check whether the server can run here, and state what to change: files and their
    /// permissions, ports, limits of the system, the database, the adapter, the sources of keys and
    /// the called services. Nothing is changed there. The exit code is 1 if something prevents the
    /// server from running.
    #[arg(long)]
    connect: bool,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// Arguments of `print-config`.
#[derive(Clone, Debug, Args)]
struct PrintConfig {
    /// Print all keys as comments, with type, unit, default, environment variables, and whether a
    /// reload takes a changed value. The configuration is not read.
    #[arg(long)]
    commented: bool,
    /// Print JSON: the configuration, or with `--commented` a list of all keys.
    #[arg(long)]
    json: bool,
}

impl Command {
    /// Returns whether the command prints its result as JSON because of `--json`.
    fn prints_json(&self) -> bool {
        match self {
            Self::Migrate(arguments) => arguments.json,
            Self::Backup(arguments) => arguments.json,
            Self::Restore(arguments) => arguments.json,
            Self::CheckConfig(arguments) => arguments.json,
            Self::PrintConfig(arguments) => arguments.json,
            Self::Bench(arguments) => arguments.json,
            Self::Token(arguments) => arguments.json,
            Self::Explain(arguments) => arguments.json,
            Self::Health(arguments) => arguments.json,
            Self::Serve
            | Self::Export(_)
            | Self::Catalog(_)
            | Self::Call(_)
            | Self::Emit(_)
            | Self::Channel(_)
            | Self::Stream(_)
            | Self::Route(_)
            | Self::Trace(_)
            | Self::Completions(_)
            | Self::Man => false,
        }
    }
}

/// Runs the command that the process was started with.
#[must_use]
pub fn run() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) if error.use_stderr() && std::env::args_os().any(|given| given == "--json") => {
            let text = error.to_string();
            let text = text.strip_prefix("error: ").unwrap_or(&text);
            return fail(true, text.trim_end(), REFUSED);
        }
        Err(error) => error.exit(),
    };
    match &arguments.command {
        // These commands need no server configuration.
        Some(Command::Bench(arguments)) if !arguments.makes_tokens() => {
            return bench::run(arguments, None);
        }
        Some(Command::Completions(completions)) => return manual::completions(completions),
        Some(Command::Man) => return manual::page(),
        Some(Command::PrintConfig(print)) if print.commented => return print_keys(print),
        Some(Command::Health(arguments)) if arguments.names_server() => {
            return remote::health(None, arguments);
        }
        Some(_) | None => {}
    }
    let overrides = Overrides {
        listen: arguments.listen,
        store: arguments.store,
        profile: arguments.profile,
        log: arguments.log,
    };
    let (file, env_file) = (arguments.config.clone(), arguments.env_file.clone());
    let read = {
        let (file, env_file) = (arguments.config, arguments.env_file);
        move || {
            let environment = settings::environment(env_file.as_deref(), std::env::vars_os());
            settings::read(file.as_deref(), environment, overrides.clone())
        }
    };
    let mut configuration = read();
    let command = arguments.command.unwrap_or(Command::Serve);
    if matches!(command, Command::Serve | Command::CheckConfig(_)) {
        configuration.check(check);
        let undeclared = undeclared_roles(&configuration.settings);
        configuration.warnings.extend(undeclared);
    } else if matches!(command, Command::Catalog(_)) {
        configuration.check(check_kinds);
    }
    let Configuration {
        settings,
        mistakes,
        warnings,
        ..
    } = configuration;
    if let Command::CheckConfig(check_config) = &command {
        let examined = (check_config.connect && mistakes.is_empty())
            .then(|| connect::examine(&settings, file.as_deref(), env_file.as_deref()));
        return match examined.transpose() {
            Ok(findings) => report(
                check_config,
                &settings,
                &mistakes,
                warnings,
                findings.as_deref(),
            ),
            Err(error) => fail(
                check_config.json,
                format_args!("cannot start the runtime: {error}"),
                1,
            ),
        };
    }
    if !mistakes.is_empty() {
        return refuse(&mistakes, command.prints_json());
    }
    // `serve` logs the warnings. They would be repeated with each health check, and do not concern
    // the benchmark.
    if !matches!(
        command,
        Command::Serve | Command::Health(_) | Command::Bench(_)
    ) {
        warn(&warnings);
    }
    match command {
        Command::Bench(arguments) => bench::run(&arguments, Some(&settings)),
        Command::Catalog(catalog) => catalog::run(&settings, &catalog),
        Command::Completions(completions) => manual::completions(&completions),
        Command::Man => manual::page(),
        Command::Serve => serve::run(&settings, &warnings, read),
        Command::Migrate(migrate) => migrate::run(&settings, &migrate),
        Command::CheckConfig(check) => report(&check, &settings, &mistakes, warnings, None),
        Command::Export(export) => export::run(&settings, &export),
        Command::Backup(arguments) => copies::back_up(&settings, &arguments),
        Command::Restore(arguments) => copies::restore(&settings, &arguments),
        Command::Token(token) => identity::token(&settings, &token),
        Command::Explain(explain) => identity::explain(&settings, explain),
        Command::Call(arguments) => remote::call(&settings, arguments),
        Command::Emit(arguments) => remote::emit(&settings, arguments),
        Command::Channel(arguments) => remote::channel(&settings, arguments),
        Command::Stream(arguments) => remote::stream(&settings, &arguments),
        Command::Route(command) => command.run(&settings),
        Command::Trace(arguments) => remote::trace(&settings, &arguments),
        Command::Health(arguments) => remote::health(Some(&settings), &arguments),
        Command::PrintConfig(print) => print_config(&settings, &print),
    }
}

/// Checks the settings as the server does at its start.
fn check(settings: &Settings) -> Result<(), String> {
    log::check(&settings.log).map_err(|error| error.to_string())?;
    crate::server::check(settings).map_err(|error| chain(&error))
}

/// Checks the declared kinds of channels.
fn check_kinds(settings: &Settings) -> Result<(), String> {
    let kinds = Kinds::new(&settings.channels);
    kinds.map(drop).map_err(|fault| fault.to_string())
}

/// Reports the outcome of `check-config`.
fn report(
    check: &CheckConfig,
    settings: &Settings,
    mistakes: &[Mistake],
    mut warnings: Vec<String>,
    findings: Option<&[connect::Finding]>,
) -> ExitCode {
    let is_valid = mistakes.is_empty();
    if is_valid {
        warnings.extend(configured::advice(settings));
    }
    let is_fit = connect::is_fit(findings.unwrap_or_default());
    if check.json {
        let outcome = json!({
            "valid": is_valid, "mistakes": mistakes, "warnings": warnings, "findings": findings,
        });
        outln!("{outcome:#}");
    } else {
        warn(&warnings);
        if is_valid {
            outln!("the configuration is valid");
        }
        connect::print(findings.unwrap_or_default());
    }
    match (is_valid, is_fit) {
        (false, _) if check.json => ExitCode::from(REFUSED),
        (false, _) => refuse(mistakes, false),
        (true, false) => ExitCode::FAILURE,
        (true, true) => ExitCode::SUCCESS,
    }
}

/// Prints all mistakes of the configuration, with `json` as [`output::fail`] does.
fn refuse(mistakes: &[Mistake], json: bool) -> ExitCode {
    if json {
        let failure = json!({
            "error": "the configuration has mistakes", "exitCode": REFUSED, "mistakes": mistakes,
        });
        outln!("{failure:#}");
        return ExitCode::from(REFUSED);
    }
    for mistake in mistakes {
        errln!("roomcast: {mistake}");
    }
    ExitCode::from(REFUSED)
}

/// Prints the configuration in force.
fn print_config(settings: &Settings, print: &PrintConfig) -> ExitCode {
    let settings = settings.in_force();
    let text = if print.json {
        serde_json::to_string_pretty(&settings)
            .map(|text| text + "\n")
            .map_err(|error| error.to_string())
    } else {
        // The settings have a serialiser for tables already; another one for text takes 0.6 MB.
        let table = Table::try_from(&settings).map_err(|error| error.to_string());
        table.and_then(|table| toml::to_string(&table).map_err(|error| error.to_string()))
    };
    match text {
        Ok(text) => {
            out!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => fail(print.json, error, 1),
    }
}

/// Prints all keys of the configuration.
fn print_keys(print: &PrintConfig) -> ExitCode {
    if print.json {
        let keys = json!(settings::entries());
        outln!("{keys:#}");
    } else {
        out!("{}", settings::commented());
    }
    ExitCode::SUCCESS
}

fn warn(warnings: &[String]) {
    for warning in warnings {
        errln!("roomcast: {warning}");
    }
}

/// The exit code if the configuration is refused. The next start would fail in the same way.
const REFUSED: u8 = 2;

/// Creates the runtime. On a single core, the current-thread runtime is faster because it needs no
/// work stealing.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut builder = if cores == 1 {
        tokio::runtime::Builder::new_current_thread()
    } else {
        tokio::runtime::Builder::new_multi_thread()
    };
    builder.enable_all().build()
}

/// Formats an error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
