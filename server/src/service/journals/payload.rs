//! The names of users' journals, and the encoding of entries.

use serde::{Deserialize, Serialize};

use crate::store::Entry;

/// Decodes an entry. Returns `None` for the format of a newer version.
pub(in crate::service) fn read<'a, T: Deserialize<'a>>(entry: &'a Entry) -> Option<T> {
    serde_json::from_str(&entry.body)
        .inspect_err(
            |error| tracing::debug!(%error, "skipped a journal entry in an unknown format"),
        )
        .ok()
}

pub(in crate::service) fn write<T: Serialize>(body: &T) -> String {
    serde_json::to_string(body).unwrap_or_default()
}

/// Returns the name of the journal of a kind for one user, or for another object with its own
/// journal.
pub(in crate::service) fn journal_of(kind: &str, id: &str) -> String {
    format!("{kind}:{id}")
}

/// Returns the user of a journal named by [`journal_of`].
pub(in crate::service) fn user_of<'a>(kind: &str, journal: &'a str) -> &'a str {
    let user = journal.strip_prefix(kind);
    user.and_then(|user| user.strip_prefix(':'))
        .unwrap_or_default()
}
