//! Amendments: corrections and withdrawals of published entries, even if they are closed.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{Journals, read, write};
use crate::service::fault::ServiceError;
use crate::store::{Amend, Entry, StoreError, Time, WITHDRAWAL};
use roomcast::Namespace;

/// The body of an entry that withdraws its key. It begins with [`WITHDRAWAL`].
#[derive(Serialize, Deserialize)]
struct Withdrawal<T> {
    withdrawn: T,
}

/// Returns the body of an entry that withdraws its key.
pub(in crate::service) fn write_withdrawal<T: Serialize>(withdrawn: &T) -> String {
    write(&Withdrawal { withdrawn })
}

/// Returns whether an entry withdraws its key.
pub(in crate::service) fn is_withdrawal(entry: &Entry) -> bool {
    entry.body.starts_with(WITHDRAWAL)
}

/// Returns the entries that do not withdraw their keys.
pub(in crate::service) fn published(entries: &[Entry]) -> impl Iterator<Item = &Entry> {
    entries.iter().filter(|entry| !is_withdrawal(entry))
}

/// Returns the content of an entry that withdraws its key.
pub(in crate::service) fn withdrawal<T: DeserializeOwned>(entry: &Entry) -> Option<T> {
    let is_meant = is_withdrawal(entry);
    let body = is_meant.then(|| read::<Withdrawal<T>>(entry)).flatten()?;
    Some(body.withdrawn)
}

/// The replacement of a current entry.
pub(in crate::service) struct Amended {
    pub(in crate::service) body: String,
    /// Whether another entry of its key may follow.
    pub(in crate::service) is_open: bool,
}

impl Journals {
    /// Replaces the current entry of a key with the result of `amended`, and emits it to the
    /// followers.
    ///
    /// If `amended` returns `None`, the entry already has the requested content and stays. Returns
    /// the current entry, and whether this request has stored it. `missing` is the error message if
    /// the key has no entry.
    pub(in crate::service) async fn amend(
        &self,
        namespace: &Namespace,
        (journal, key): (&str, &str),
        missing: &'static str,
        amended: impl Fn(&Entry) -> Result<Option<Amended>, ServiceError>,
    ) -> Result<(Entry, bool), ServiceError> {
        for _ in 0..ATTEMPTS {
            let store = self.store();
            let known = store.journal_entry(journal, key).await?;
            let now = Time::now();
            let is_unexpired = |entry: &Entry| entry.expires_at.is_none_or(|end| end > now);
            let known = known.filter(is_unexpired);
            let known = known.ok_or(ServiceError::NotFound(missing))?;
            let Some(Amended { body, is_open }) = amended(&known)? else {
                return Ok((known, false));
            };
            let amend = Amend {
                journal: journal.to_owned(),
                key: key.to_owned(),
                replaces: known.revision,
                body,
                is_open,
                created_at: now,
                expires_at: known.expires_at,
            };
            if let Some(entry) = self.store_amended(namespace, amend).await? {
                return Ok((entry, true));
            }
        }
        Err(ServiceError::Conflict(
            "another change of it is in progress, try again",
        ))
    }

    /// Stores an amendment and emits it, even if the caller gives up.
    async fn store_amended(
        &self,
        namespace: &Namespace,
        amend: Amend,
    ) -> Result<Option<Entry>, StoreError> {
        let (journals, namespace) = (self.clone(), namespace.clone());
        let amending = tokio::spawn(async move {
            let name = amend.journal.clone();
            let amended = journals.store().amend(amend).await;
            match &amended {
                Ok(Some(entry)) => journals.emit(&namespace, &name, entry, true).await,
                Ok(None) => {}
                // The entry may have been stored in spite of the error.
                Err(_) => journals.mark_in_doubt(&name),
            }
            amended
        });
        amending.await.unwrap_or(Err(StoreError::Unknown))
    }
}

/// The maximum number of attempts to amend an entry that is replaced concurrently.
const ATTEMPTS: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn withdrawals_start_with_the_mark_of_the_store() {
        let body = write_withdrawal(&7);
        assert!(body.starts_with(WITHDRAWAL), "{body}");
        let entry = |body: &str| Entry {
            revision: 1,
            key: "k".into(),
            body: body.into(),
            category: None,
            is_open: false,
            created_at: Time::now(),
            expires_at: None,
        };
        assert_eq!(withdrawal(&entry(&body)), Some(7));
        assert_eq!(withdrawal::<u8>(&entry(r#"{"signalId":"s"}"#)), None);
    }
}
