//! Appending entries: they are stored, and emitted to the followers at this server.

use std::sync::Arc;
use std::time::Instant;

use futures_util::{StreamExt as _, stream};

use super::followed::Followed;
use super::{DOUBT_TIMEOUT, Journals, READERS};
use crate::store::{Append, Appended, Entry, StoreError};
use roomcast::Namespace;

/// An entry, and whether it was not stored before.
type StoredEntry<'a> = (&'a Entry, bool);

impl Journals {
    /// Stores an entry, then emits it to the followers of its journal at this server.
    ///
    /// Other servers read it from the store. Both happen even if the caller gives up.
    pub(in crate::service) async fn append(
        &self,
        namespace: &Namespace,
        append: Append,
    ) -> Result<Appended, StoreError> {
        let (journals, namespace) = (self.clone(), namespace.clone());
        let appending = tokio::spawn(async move {
            let name = append.journal.clone();
            let appended = journals.0.store.append(append).await;
            match &appended {
                Ok(appended) => {
                    if let Some((entry, is_new)) = stored(appended) {
                        journals.emit(&namespace, &name, entry, is_new).await;
                    }
                }
                // The entry may have been stored in spite of the error, or may be stored later.
                Err(_) => journals.mark_in_doubt(&name),
            }
            appended
        });
        appending.await.unwrap_or(Err(StoreError::Unknown))
    }

    /// Appends entries in one transaction, and emits those that are stored to the followers at this
    /// server.
    ///
    /// Both happen even if the caller gives up. The results are in the order of the entries.
    pub(in crate::service) async fn append_all(
        &self,
        namespace: &Namespace,
        appends: Vec<Append>,
    ) -> Result<Vec<Appended>, StoreError> {
        // Transactions lock several journals in the order of their names.
        let mut placed: Vec<(usize, Append)> = appends.into_iter().enumerate().collect();
        placed.sort_by(|(_, a), (_, b)| a.journal.cmp(&b.journal));
        let (places, appends): (Vec<usize>, Vec<Append>) = placed.into_iter().unzip();
        let names: Vec<String> = appends.iter().map(|one| one.journal.clone()).collect();
        let (journals, namespace) = (self.clone(), namespace.clone());
        let appending = tokio::spawn(async move {
            let appended = journals.0.store.append_all(appends).await;
            match &appended {
                Ok(appended) => journals.emit_all(&namespace, &names, appended).await,
                // The entries may have been stored in spite of the error, or may be stored later.
                Err(_) => names.iter().for_each(|name| journals.mark_in_doubt(name)),
            }
            appended
        });
        let appended = appending.await.unwrap_or(Err(StoreError::Unknown))?;
        let mut in_order: Vec<(usize, Appended)> = places.into_iter().zip(appended).collect();
        in_order.sort_by_key(|(place, _)| *place);
        Ok(in_order.into_iter().map(|(_, appended)| appended).collect())
    }

    /// Emits just stored entries to the followers of their journals at this server. Those of one
    /// journal follow each other.
    async fn emit_all(&self, namespace: &Namespace, names: &[String], appended: &[Appended]) {
        let mut all: Vec<(Arc<Followed>, Vec<StoredEntry<'_>>)> = Vec::new();
        {
            let followed = self.0.followed.lock();
            for (name, appended) in names.iter().zip(appended) {
                let Some(stored) = stored(appended) else {
                    continue;
                };
                match (all.last_mut(), followed.get(name)) {
                    (Some((last, entries)), _) if last.name == *name => entries.push(stored),
                    (_, Some(one)) => all.push((Arc::clone(one), vec![stored])),
                    (_, None) => {}
                }
            }
        }
        let emitting = stream::iter(all).for_each_concurrent(READERS, async |(one, entries)| {
            // Each entry that is emitted alone is followed by a count of the open ones.
            if one.counts_open() && entries.len() > 1 {
                self.catch_up_all(namespace, vec![one]).await;
                return;
            }
            for (n, (entry, is_new)) in entries.into_iter().enumerate() {
                // The first one shows whether the store has lost entries.
                let emitted = one.emit_new(namespace, entry, is_new && n == 0);
                if let Err(error) = emitted.await {
                    tracing::debug!(%error, "could not read journal entries, retrying");
                }
            }
        });
        emitting.await;
    }

    /// Emits a just stored entry to the followers of its journal at this server.
    pub(super) async fn emit(
        &self,
        namespace: &Namespace,
        name: &str,
        entry: &Entry,
        is_new: bool,
    ) {
        let followed = self.0.followed.lock().get(name).cloned();
        if let Some(followed) = followed
            && let Err(error) = followed.emit_new(namespace, entry, is_new).await
        {
            roomcast::throttled_log!(warn, %error, "could not read a new journal entry, it is emitted later");
        }
    }

    /// Schedules repeated checks of a journal for a while.
    pub(super) fn mark_in_doubt(&self, name: &str) {
        if let Some(followed) = self.0.followed.lock().get(name) {
            followed.extend_doubt(Instant::now() + DOUBT_TIMEOUT);
        }
    }
}

/// Returns the entry that is stored, and whether it was not stored before. A known entry may have
/// been stored late, after an error.
pub(in crate::service) fn stored(appended: &Appended) -> Option<StoredEntry<'_>> {
    match appended {
        Appended::Stored(entry) => Some((entry, true)),
        Appended::There(entry) => Some((entry, false)),
        Appended::Absent | Appended::Full => None,
    }
}
