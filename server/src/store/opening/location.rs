//! Parses the URL of a store.

use std::path::PathBuf;

use crate::store::OpenError;

/// The database that a store's URL names.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Location {
    Memory,
    /// The URL with its credentials, which must not be displayed.
    Postgres(String),
    Sqlite(PathBuf),
}

impl Location {
    pub(super) fn parse(url: &str) -> Result<Self, OpenError> {
        const EXPECTED: OpenError = OpenError::Url(
            "expected `postgres://USER:PASSWORD@HOST/DATABASE`, `sqlite:PATH` or `memory:`",
        );
        match url.split_once(':') {
            Some(("memory", "")) => Ok(Self::Memory),
            Some(("postgres" | "postgresql", rest)) if rest.starts_with("//") => {
                Ok(Self::Postgres(url.into()))
            }
            Some(("sqlite", path)) => match path.strip_prefix("//").unwrap_or(path) {
                "" => Err(EXPECTED),
                ":memory:" => Err(OpenError::Url("for a store in memory use `memory:`")),
                path => Ok(Self::Sqlite(path.into())),
            },
            Some(_) | None => Err(EXPECTED),
        }
    }

    #[cfg(not(all(feature = "sqlite", feature = "postgres")))]
    pub(super) fn absent(&self) -> OpenError {
        match self {
            Self::Memory => OpenError::Absent {
                backend: "`memory:`",
                remedy: "it is SQLite on a temporary file, build with the feature `sqlite`",
            },
            Self::Sqlite(_) => OpenError::Absent {
                backend: "SQLite",
                remedy: "build with the feature `sqlite`",
            },
            Self::Postgres(_) => OpenError::Absent {
                backend: "PostgreSQL",
                remedy: "build with the feature `postgres`",
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_backend() {
        for (url, expected) in [
            ("memory:", Location::Memory),
            (
                "postgres://u:secret@h/d",
                Location::Postgres("postgres://u:secret@h/d".into()),
            ),
            (
                "postgresql:///d?host=/run/postgresql",
                Location::Postgres("postgresql:///d?host=/run/postgresql".into()),
            ),
            ("sqlite:roomcast.db", Location::Sqlite("roomcast.db".into())),
            (
                "sqlite:/var/lib/chat.db",
                Location::Sqlite("/var/lib/chat.db".into()),
            ),
            (
                "sqlite:///var/lib/chat.db",
                Location::Sqlite("/var/lib/chat.db".into()),
            ),
        ] {
            assert_eq!(Location::parse(url), Ok(expected), "{url}");
        }
    }

    #[cfg(not(feature = "sqlite"))]
    #[tokio::test]
    async fn build_without_sqlite_refuses_the_memory_store_by_name() {
        use crate::{config, store::Store};

        let config = config::Store {
            url: "memory:".into(),
            ..config::Store::default()
        };
        for refused in [
            Store::check(&config).unwrap_err(),
            Store::try_out(&config).await.unwrap_err(),
            Store::open(&config, Default::default()).await.unwrap_err(),
        ] {
            let refused = refused.to_string();
            assert!(refused.contains("no `memory:` store"), "{refused}");
            assert!(refused.contains("the feature `sqlite`"), "{refused}");
        }
    }

    #[test]
    fn unknown_url_is_refused_without_echoing_it() {
        for url in [
            "",
            "memory",
            "memory:x",
            "sqlite:",
            "sqlite://",
            "sqlite::memory:",
            "mysql://u:secret@h",
            "postgres:",
            "postgres:u:secret@h",
        ] {
            let error = Location::parse(url).unwrap_err();
            assert!(matches!(error, OpenError::Url(_)), "{url}: {error}");
            assert!(!error.to_string().contains("secret"));
        }
    }
}
