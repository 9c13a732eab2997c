//! Why there is no configuration.

use std::fmt;
use std::path::PathBuf;

/// Why there is no configuration.
#[derive(Debug)]
pub(in crate::cli) enum LoadError {
    Read(PathBuf, std::io::Error),
    /// The file is no TOML: the line, and what is wrong. The line itself may hold a secret.
    Syntax(PathBuf, usize, String),
    UnknownKey {
        path: PathBuf,
        key: String,
        nearest: Option<String>,
    },
    /// A key of an earlier version: where it stands, the key, and what has taken its place.
    Removed(String, String, &'static str),
    /// A variable that is no key, where that is no warning.
    UnknownVariable(String),
    /// A variable whose value is no text.
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
