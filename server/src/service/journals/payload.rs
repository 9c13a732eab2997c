//! The names of journals of users, and what an entry of a journal says.

use serde::{Serialize, de::DeserializeOwned};

use crate::store::Entry;

/// What an entry says. What a newer version of the server has written in another form is left out.
pub(in crate::service) fn read<T: DeserializeOwned>(entry: &Entry) -> Option<T> {
    serde_json::from_str(&entry.body)
        .inspect_err(|error| tracing::debug!(%error, "an entry of a journal in another form"))
        .ok()
}

pub(in crate::service) fn write<T: Serialize>(body: &T) -> String {
    serde_json::to_string(body).unwrap_or_default()
}

/// The name of the journal of a kind for one user, or whatever else each has a journal of its own.
pub(in crate::service) fn journal_of(kind: &str, id: &str) -> String {
    format!("{kind}:{id}")
}

/// The user of a journal that [`journal_of`] names.
pub(in crate::service) fn user_of<'a>(kind: &str, journal: &'a str) -> &'a str {
    let user = journal.strip_prefix(kind);
    user.and_then(|user| user.strip_prefix(':'))
        .unwrap_or_default()
}
