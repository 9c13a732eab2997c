//! Raises the limit of open files, which bounds the number of connections.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::{Limits, Settings};

/// The number of open files reserved for everything except client connections.
const OTHERS: u64 = 128;

/// Raises the limit of open files to the hard limit, and logs how many connections that allows.
pub(super) fn raise_limit(settings: &Settings) {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, raised)
    {
        tracing::warn!(%error, "could not raise the limit of open files");
    }
    let Some(files) = getrlimit(Resource::Nofile).current else {
        return;
    };
    let room = connections(files);
    tracing::info!(files, connections = room, "limit of open files");
    let needed = settings.limits.connections as u64;
    if needed > room && needed == Limits::default().connections as u64 {
        // The operator did not set this limit, so lowering the default is no reason for a warning.
        tracing::info!(
            wanted = needed,
            room,
            "the connection limit is lowered to the limit of open files"
        );
    } else if needed > room {
        tracing::warn!(
            wanted = needed,
            room,
            "limits.connections is more than the limit of open files allows: raise the hard limit \
             (LimitNOFILE= of systemd), or clients will wait to be accepted"
        );
    }
}

/// Returns the limit of open files that the configured connections need.
pub(in crate::cli) fn needed_files(settings: &Settings) -> u64 {
    (settings.limits.connections as u64).saturating_add(OTHERS)
}

/// Returns the number of connections that a limit of open files allows.
fn connections(files: u64) -> u64 {
    files.saturating_sub(OTHERS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_file_limit_is_raised_to_the_hard_limit() {
        raise_limit(&Settings::default());
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
        assert_eq!((connections(1024), connections(100)), (896, 0));
    }
}
