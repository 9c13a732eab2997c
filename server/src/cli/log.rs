//! Log output: human lines or JSON, to standard output or a file of the day.

use std::{fmt, io};

use tracing_appender::{
    non_blocking::WorkerGuard,
    rolling::{RollingFileAppender, Rotation},
};
use tracing_subscriber::{EnvFilter, fmt::MakeWriter, fmt::writer::BoxMakeWriter};

use crate::config::{Log, LogFormat};

/// Why logging could not be started.
#[derive(Debug)]
pub(super) enum LogError {
    Level(tracing_subscriber::filter::ParseError),
    File(std::path::PathBuf),
    Init(Box<dyn std::error::Error + Send + Sync>),
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Level(error) => write!(f, "log.level: {error}"),
            Self::File(path) => write!(f, "log.file: {} is not a file's path", path.display()),
            Self::Init(error) => write!(f, "log: {error}"),
        }
    }
}

/// Whether the options can be used.
pub(super) fn check(log: &Log) -> Result<(), LogError> {
    let filter = EnvFilter::builder().parse(&log.level);
    filter.map(|_| ()).map_err(LogError::Level)
}

/// Starts logging. Lines are written by a thread of their own until the guard is dropped.
pub(super) fn start(log: &Log) -> Result<WorkerGuard, LogError> {
    let filter = EnvFilter::builder()
        .parse(&log.level)
        .map_err(LogError::Level)?;
    let (writer, guard) = match &log.file {
        None => tracing_appender::non_blocking(io::stdout()),
        Some(path) => {
            let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
                return Err(LogError::File(path.clone()));
            };
            let file = RollingFileAppender::builder()
                .rotation(Rotation::DAILY)
                .filename_prefix(name.to_string_lossy())
                .build(folder)
                .map_err(|error| LogError::Init(error.into()))?;
            tracing_appender::non_blocking(file)
        }
    };
    let colours = log.file.is_none() && io::IsTerminal::is_terminal(&io::stdout());
    let writer = BoxMakeWriter::new(writer);
    install(filter, log.format, colours, writer).map_err(LogError::Init)?;
    Ok(guard)
}

fn install(
    filter: EnvFilter,
    format: LogFormat,
    colours: bool,
    writer: impl for<'a> MakeWriter<'a> + Send + Sync + 'static,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(colours)
        .with_writer(writer);
    match format {
        LogFormat::Human => lines.try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    }
}
