//! The command line: arguments and commands.
//!
//! Only the binary calls this module. Each file has one command or a few similar ones. `settings`
//! loads the configuration, `log` starts logging, and `remote` calls a running server. Commands use
//! the composition root, the store and the services; this module must not contain rules of the
//! product.

mod bench;
mod catalog;
mod connect;
mod database;
mod files;
mod identity;
mod log;
mod output;
mod remote;
mod settings;

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};

use self::database::{copies, export, migrate};
use self::output::{errln, out, outln};
use self::settings::Overrides;
use crate::{
    auth::configured,
    config::{Profile, Settings},
    server::RunError,
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
    Migrate,
    /// Write a conversation with all its messages to a file or to standard output, also while the
    /// server runs.
    Export(export::Export),
    /// Copy the SQLite database to a file, also while the server runs.
    Backup(copies::BackUp),
    /// Make a file of `backup` the SQLite database, while no server runs.
    Restore(copies::Restore),
    /// Check whether the configuration is valid.
    CheckConfig(CheckConfig),
    /// Print the configuration in force, as TOML.
    PrintConfig,
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
    /// List the sockets of a running server and its cluster, one line of JSON for each.
    Sockets(remote::SocketsArguments),
    /// List the servers in the cluster of a running server.
    Nodes(remote::NodesArguments),
    /// Check whether a running server is ready for clients: the health check of a container.
    Health(remote::HealthArguments),
}

/// Arguments of `check-config`.
#[derive(Clone, Debug, Args)]
struct CheckConfig {
    /// Also test the database, the adapter, the sources of keys, the called services, and the
    /// files. Nothing is changed there. The exit code is 1 if a test fails.
    #[arg(long)]
    connect: bool,
}

/// Runs the command that the process was started with.
#[must_use]
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(Command::Bench(arguments)) = &arguments.command
        && !arguments.makes_tokens()
    {
        // This command needs no server configuration.
        return bench::run(arguments, None);
    }
    if let Some(Command::Catalog(catalog)) = &arguments.command {
        // The catalogue does not depend on the configuration.
        return catalog::run(catalog);
    }
    if let Some(Command::Health(arguments)) = &arguments.command
        && arguments.names_server()
    {
        return remote::health(None, arguments);
    }
    let overrides = Overrides {
        listen: arguments.listen,
        store: arguments.store,
        profile: arguments.profile,
        log: arguments.log,
    };
    let loaded = match settings::load(arguments.config.as_deref(), std::env::vars_os(), overrides) {
        Ok(loaded) => loaded,
        Err(error) => {
            errln!("roomcast: {error}");
            return ExitCode::from(REFUSED);
        }
    };
    let command = arguments.command.unwrap_or(Command::Serve);
    // `serve` logs the warnings. They would be repeated with each health check, and do not concern
    // the other two.
    if !matches!(
        command,
        Command::Serve | Command::Health(_) | Command::Bench(_) | Command::Catalog(_)
    ) {
        warn(&loaded.warnings);
    }
    match command {
        Command::Bench(arguments) => bench::run(&arguments, Some(&loaded.settings)),
        Command::Catalog(catalog) => catalog::run(&catalog),
        Command::Serve => serve(&loaded.settings, &loaded.warnings),
        Command::Migrate => migrate::run(&loaded.settings),
        Command::CheckConfig(CheckConfig { connect }) => {
            let checked = log::check(&loaded.settings.log)
                .map_err(|error| error.to_string())
                .and_then(|()| {
                    crate::server::check(&loaded.settings).map_err(|error| chain(&error))
                });
            match checked {
                Ok(()) => {
                    warn(&configured::advice(&loaded.settings));
                    outln!("the configuration is valid");
                    if connect {
                        return connect::run(&loaded.settings);
                    }
                    ExitCode::SUCCESS
                }
                Err(error) => {
                    errln!("roomcast: {error}");
                    ExitCode::from(REFUSED)
                }
            }
        }
        Command::Export(export) => export::run(&loaded.settings, &export),
        Command::Backup(arguments) => copies::back_up(&loaded.settings, &arguments),
        Command::Restore(arguments) => copies::restore(&loaded.settings, &arguments),
        Command::Token(token) => identity::token(&loaded.settings, &token),
        Command::Explain(explain) => identity::explain(&loaded.settings, explain),
        Command::Call(arguments) => remote::call(&loaded.settings, arguments),
        Command::Emit(arguments) => remote::emit(&loaded.settings, arguments),
        Command::Sockets(arguments) => remote::sockets(&loaded.settings, &arguments),
        Command::Nodes(arguments) => remote::nodes(&loaded.settings, &arguments),
        Command::Health(arguments) => remote::health(Some(&loaded.settings), &arguments),
        Command::PrintConfig => match toml::to_string(&loaded.settings.in_force()) {
            Ok(text) => {
                out!("{text}");
                ExitCode::SUCCESS
            }
            Err(error) => {
                errln!("roomcast: {error}");
                ExitCode::FAILURE
            }
        },
    }
}

fn warn(warnings: &[String]) {
    for warning in warnings {
        errln!("roomcast: {warning}");
    }
}

fn serve(settings: &Settings, warnings: &[String]) -> ExitCode {
    let _log = match log::start(&settings.log, settings.profile()) {
        Ok(guard) => guard,
        Err(error) => {
            errln!("roomcast: {error}");
            return ExitCode::from(REFUSED);
        }
    };
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    files::raise_limit(settings);
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "cannot start the runtime");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(crate::server::run(settings));
    if matches!(outcome, Err(RunError::Hurried)) {
        // The process does not wait for tasks that are still running.
        runtime.shutdown_background();
    }
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = %chain(&error), "stopped");
            if matches!(error, RunError::Refused(_)) {
                ExitCode::from(REFUSED)
            } else if matches!(error, RunError::Tasks(_)) {
                ExitCode::from(TASK_ENDED)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

/// The exit code if the configuration is refused. The next start would fail in the same way.
const REFUSED: u8 = 2;
/// The exit code if a task ended that cannot be restarted: `EX_SOFTWARE` of sysexits(3).
const TASK_ENDED: u8 = 70;

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
