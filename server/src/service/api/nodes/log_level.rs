//! The log filter of this server, which operators read and change while it runs.
//!
//! The filter is that of the configuration until an operator sets a different one. A reload of the
//! configuration and a restart end that. How a filter is parsed and applied is decided by the
//! logging of the process, which this module must not know.

use std::{fmt, sync::Arc};

use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::auth::Permission;
use crate::service::{Allowed, Command, ServiceError};

/// The log filter of the process. Cloning gives another handle to the same filter.
#[derive(Clone)]
pub(crate) struct LogLevel(Arc<Inner>);

struct Inner {
    prepare: Box<Prepare>,
    state: Mutex<LogFilter>,
}

/// Parses a filter, and returns what replaces that of the process with it.
type Prepare = dyn Fn(&str) -> Result<Replacement, String> + Send + Sync;

/// Replaces the filter of the process, or changes nothing if it fails.
pub(crate) type Replacement = Box<dyn FnOnce() -> Result<(), String>>;

/// The log filter of the server that receives the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LogFilter {
    /// The filter in force.
    level: String,
    /// The filter of the configuration, `log.level`.
    configured: String,
    /// The filter that this one has replaced, if it has just been set.
    #[serde(skip_serializing_if = "Option::is_none")]
    former: Option<String>,
}

/// The command of `GET /api/v1/log-level`.
#[derive(Debug)]
pub(crate) struct ReadLogLevel;

impl Command for ReadLogLevel {
    const PERMISSION: Option<Permission> = Some(Permission::ApiLogLevel);
}

/// The command of `PUT /api/v1/log-level`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SetLogLevel {
    /// The filter, such as `info` or `info,roomcast::engine=debug`. Default: that of the
    /// configuration.
    #[schemars(length(max = 1024))]
    level: Option<String>,
}

impl Command for SetLogLevel {
    const PERMISSION: Option<Permission> = Some(Permission::ApiLogLevel);
}

impl LogLevel {
    /// `configured` is in force. `prepare` parses another filter, and returns what applies it.
    pub(crate) fn new(
        configured: &str,
        prepare: impl Fn(&str) -> Result<Replacement, String> + Send + Sync + 'static,
    ) -> Self {
        let state = LogFilter {
            level: configured.to_owned(),
            configured: configured.to_owned(),
            former: None,
        };
        Self(Arc::new(Inner {
            prepare: Box::new(prepare),
            state: Mutex::new(state),
        }))
    }

    /// Applies the filter of a configuration that was read again.
    ///
    /// # Errors
    ///
    /// If it is not a filter. Nothing is changed then.
    pub(crate) fn configure(&self, level: &str) -> Result<(), String> {
        let mut state = self.0.state.lock();
        if state.level != level {
            (self.0.prepare)(level)?()?;
        }
        level.clone_into(&mut state.level);
        level.clone_into(&mut state.configured);
        Ok(())
    }

    pub(crate) fn read(&self, _: &Allowed<ReadLogLevel>) -> LogFilter {
        self.0.state.lock().clone()
    }

    /// Sets the filter, and logs who has done so.
    ///
    /// # Errors
    ///
    /// [`ServiceError::Invalid`] if it is not a filter.
    pub(crate) fn set(&self, allowed: Allowed<SetLogLevel>) -> Result<LogFilter, ServiceError> {
        let (by, SetLogLevel { level }) = allowed.into_parts();
        let mut state = self.0.state.lock();
        let level = level.unwrap_or_else(|| state.configured.clone());
        let invalid = |problem: String| ServiceError::invalid("level", problem);
        if level.len() > MAX_FILTER {
            return Err(invalid(format!("must have at most {MAX_FILTER} bytes")));
        }
        let apply = (self.0.prepare)(&level).map_err(invalid)?;
        let log = |former: &str| {
            tracing::warn!(user = by.subject, former, level, "log level set");
        };
        // The new filter may exclude this line, and so may the former one.
        let is_logged = tracing::enabled!(tracing::Level::WARN);
        if is_logged {
            log(&state.level);
        }
        apply().map_err(invalid)?;
        if !is_logged {
            log(&state.level);
        }
        let former = std::mem::replace(&mut state.level, level);
        Ok(LogFilter {
            former: Some(former),
            ..state.clone()
        })
    }
}

impl fmt::Debug for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.state.lock().fmt(f)
    }
}

/// Maximum length of a filter in bytes.
const MAX_FILTER: usize = 1024;
