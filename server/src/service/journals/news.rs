//! Applies journal entries that other servers have appended.

use super::Journals;
use crate::service::feed::{Applied, Applier, Applying, Entries};
use crate::store::{Feed, StoreError};
use roomcast::Namespace;

/// Makes followed journals catch up with their entries in the feed.
pub(crate) struct JournalNews {
    journals: Journals,
    namespace: Namespace,
}

impl JournalNews {
    pub(crate) fn new(journals: Journals, namespace: Namespace) -> Self {
        Self {
            journals,
            namespace,
        }
    }

    async fn emit(&self, changed: &Entries) -> Result<(), StoreError> {
        let Journals(inner) = &self.journals;
        let lagging: Vec<_> = {
            let followed = inner.followed.lock();
            match changed {
                Entries::All => followed.values().cloned().collect(),
                Entries::These(keys) => keys
                    .iter()
                    .filter_map(|key| parse(key))
                    .filter_map(|(revision, name)| Some((revision, followed.get(name)?)))
                    // The feed also returns entries that this server has appended and emitted
                    // itself.
                    .filter(|(revision, journal)| journal.is_lagging(*revision))
                    .map(|(_, journal)| journal.clone())
                    .collect(),
            }
        };
        for journal in lagging {
            // After an error, the feed reader applies the same changes again.
            journal.catch_up(&inner.store, &self.namespace).await?;
        }
        Ok(())
    }
}

impl Applier for JournalNews {
    fn topic(&self) -> &'static str {
        "journals"
    }

    fn apply<'a>(&'a self, _: &'a Feed, changed: &'a Entries) -> Applying<'a> {
        Box::pin(async move {
            self.emit(changed).await?;
            Ok(Applied::default())
        })
    }
}

/// Parses a key of the feed: REVISION:NAME.
fn parse(key: &str) -> Option<(u64, &str)> {
    let (revision, name) = key.split_once(':')?;
    Some((revision.parse().ok()?, name))
}
