//! The limit of open files of this process, which limits the number of clients.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit of open files as far as this process is allowed to.
///
/// Fails with the allowed number if that is less than `needed`.
pub(super) fn allow_open_files(needed: u64) -> Result<(), u64> {
    let limit = getrlimit(Resource::Nofile);
    let (current, maximum) = (
        limit.current.unwrap_or(u64::MAX),
        limit.maximum.unwrap_or(u64::MAX),
    );
    if current < maximum {
        let raised = Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        };
        if setrlimit(Resource::Nofile, raised).is_err() && current < needed {
            return Err(current);
        }
    }
    if maximum < needed {
        Err(maximum)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_files_than_may_be_open_are_refused() {
        let limit = allow_open_files(u64::MAX - 1);
        let hard = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
        assert_eq!(limit.err(), (hard < u64::MAX - 1).then_some(hard));
        assert_eq!(allow_open_files(1), Ok(()));
    }
}
