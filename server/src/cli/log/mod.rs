//! Log output: text lines or JSON, to standard output or files of limited size.

mod fields;
mod filter;
mod rotating;

use std::{fmt, io};

use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::{EnvFilter, fmt::MakeWriter, fmt::writer::BoxMakeWriter, reload::Handle};

use self::fields::Located;
pub(super) use self::rotating::Rotating;
use crate::config::{Log, LogFormat, Profile, private_files};
use crate::service::api::LogLevel;

/// The reason why logging cannot start, or why a log filter is refused.
#[derive(Debug)]
pub(super) enum LogError {
    Level(tracing_subscriber::filter::ParseError),
    /// A directive has an invalid level or a misspelled module, with the reason.
    Directive(String),
    File(std::path::PathBuf, io::Error),
    /// Every user of the machine can replace the log through this folder.
    Folder(std::path::PathBuf),
    Init(Box<dyn std::error::Error + Send + Sync>),
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Level(error) => write!(f, "log.level: {error}"),
            Self::Directive(fault) => write!(f, "log.level: {fault}"),
            Self::File(path, error) => write!(f, "log.file: {}: {error}", path.display()),
            Self::Folder(folder) => {
                f.write_str(&private_files::open_folder_fault("log.file", folder))
            }
            Self::Init(error) => write!(f, "log: {error}"),
        }
    }
}

/// Libraries whose logs duplicate the server's: each migration, and an error for each failed NATS
/// connection. Their levels apply unless the configured filter names the library.
const QUIETED: [(&str, &str); 2] = [("refinery_core", "warn"), ("async_nats", "off")];

/// The target of the access log, which the configured filter can also name.
const ACCESS: &str = "roomcast_access";

/// Checks the log filter.
pub(super) fn check(log: &Log) -> Result<(), LogError> {
    parse(&log.level).map(drop)
}

fn parse(level: &str) -> Result<EnvFilter, LogError> {
    // This check reports the mistake; the library only reports what it expects.
    filter::check(level).map_err(LogError::Directive)?;
    let filter = EnvFilter::builder().parse(level);
    filter.map_err(LogError::Level)
}

/// The log while the server runs.
pub(super) struct Logging {
    /// Writes the remaining lines when it is dropped.
    _guard: WorkerGuard,
    pub(super) level: LogLevel,
}

/// Returns a filter with the levels of quieted libraries and of the access log.
fn quieted(level: &str, has_access_log: bool) -> Result<EnvFilter, LogError> {
    let mut filter = parse(level)?;
    for (library, quiet) in QUIETED {
        if !level.contains(library) {
            let directive = format!("{library}={quiet}");
            filter = filter.add_directive(directive.parse().map_err(LogError::Level)?);
        }
    }
    if has_access_log && !level.contains(ACCESS) {
        let directive = format!("{ACCESS}=info").parse().map_err(LogError::Level)?;
        filter = filter.add_directive(directive);
    }
    Ok(filter)
}

/// Starts logging. A separate thread writes the lines until the result is dropped.
pub(super) fn start(log: &Log, profile: Profile) -> Result<Logging, LogError> {
    let filter = quieted(&log.level, log.access)?;
    let mut unsafe_folder = None;
    let (writer, guard) = match &log.file {
        None => tracing_appender::non_blocking(io::stdout()),
        Some(path) => {
            let failed = |error| LogError::File(path.clone(), error);
            unsafe_folder = private_files::make_folder_of(path).map_err(failed)?;
            if let (Some(folder), Profile::Production) = (&unsafe_folder, profile) {
                return Err(LogError::Folder(folder.clone()));
            }
            let file = Rotating::open(path, log.file_bytes, log.files).map_err(failed)?;
            tracing_appender::non_blocking(file)
        }
    };
    let colours = log.file.is_none() && io::IsTerminal::is_terminal(&io::stdout());
    let writer = BoxMakeWriter::new(Located::new(writer, log.format));
    let level = install(filter, log, colours, writer).map_err(LogError::Init)?;
    if let Some(folder) = unsafe_folder {
        let folder = folder.display();
        tracing::warn!(%folder, "every user of this machine can replace the log: chmod o-w the folder");
    }
    Ok(Logging {
        _guard: guard,
        level,
    })
}

fn install(
    filter: EnvFilter,
    log: &Log,
    colours: bool,
    writer: impl for<'a> MakeWriter<'a> + Send + Sync + 'static,
) -> Result<LogLevel, Box<dyn std::error::Error + Send + Sync>> {
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(colours)
        .with_writer(writer);
    match log.format {
        LogFormat::Human => {
            let lines = lines.with_filter_reloading();
            let level = log_level(log, lines.reload_handle());
            lines.try_init()?;
            Ok(level)
        }
        LogFormat::Json => {
            let lines = lines.json().flatten_event(true).with_filter_reloading();
            let level = log_level(log, lines.reload_handle());
            lines.try_init()?;
            Ok(level)
        }
    }
}

fn log_level<S: 'static>(log: &Log, handle: Handle<EnvFilter, S>) -> LogLevel {
    let has_access_log = log.access;
    LogLevel::new(&log.level, move |level| {
        let filter = quieted(level, has_access_log).map_err(|error| error.to_string())?;
        let handle = handle.clone();
        Ok(Box::new(move || {
            handle.reload(filter).map_err(|error| error.to_string())
        }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configured_filter_overrides_quieted_libraries_and_the_access_log() {
        let filter = |level: &str| quieted(level, true).unwrap().to_string();
        let default = filter("info");
        assert!(default.contains("roomcast_access=info") && default.contains("async_nats=off"));
        let own = filter("info,roomcast_access=off,async_nats=debug");
        assert!(own.contains("roomcast_access=off") && own.contains("async_nats=debug"));
        assert!(!own.contains("roomcast_access=info") && !own.contains("async_nats=off"));
    }
}
