//! Errors of loading the configuration.

use std::fmt;
use std::path::PathBuf;

/// The reason why the configuration could not be loaded.
#[derive(Debug)]
pub(in crate::cli) enum LoadError {
    Read(PathBuf, std::io::Error),
    /// The file is not valid TOML, with line number and reason. The line itself is omitted because
    /// it may contain a secret.
    Syntax(PathBuf, usize, String),
    UnknownKey {
        path: PathBuf,
        key: String,
        nearest: Option<String>,
    },
    /// A key of an earlier version: its source, the key, and its replacement.
    Removed(String, String, &'static str),
    /// A key under its name in an earlier version: its source, the old and the present name.
    Renamed {
        from: String,
        key: String,
        now: String,
    },
    /// An unknown variable in a profile in which that is an error.
    UnknownVariable(String),
    /// A variable whose value is not UTF-8.
    NotText(String),
    Value {
        key: String,
        from: String,
        error: String,
    },
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Syntax(path, line, error) => {
                write!(f, "{}: line {line}: {error}", path.display())
            }
            Self::Removed(from, key, instead) => write!(f, "{from}: `{key}`: {instead}"),
            Self::Renamed { from, key, now } => {
                write!(f, "{from}: `{key}` was renamed: set `{now}` instead")?;
                // Earlier versions had these values as numbers of seconds.
                if key.ends_with("_s") {
                    f.write_str(", with a unit, such as `30s`")?;
                }
                Ok(())
            }
            Self::UnknownVariable(unknown) => f.write_str(unknown),
            Self::NotText(name) => write!(f, "{name}: not UTF-8"),
            Self::UnknownKey { path, key, nearest } => {
                write!(f, "{}: unknown key `{key}`", path.display())?;
                match nearest {
                    Some(nearest) => write!(f, ", did you mean `{nearest}`?"),
                    None => Ok(()),
                }
            }
            Self::Value { key, from, error } => write!(f, "{from}: `{key}`: {error}"),
        }
    }
}
