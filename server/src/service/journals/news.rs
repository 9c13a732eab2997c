//! Applies journal entries that other servers have appended.

use std::collections::{HashMap, HashSet};

use futures_util::{TryStreamExt as _, stream};

use super::{Journals, READERS};
use crate::service::feed::{Applied, Applier, Applying, Entries};
use crate::store::{Feed, StoreError};
use roomcast::Namespace;

/// Makes followed journals catch up with their entries in the feed.
pub(crate) struct JournalNews {
    pub(crate) journals: Journals,
    pub(crate) namespace: Namespace,
}

impl JournalNews {
    async fn emit(&self, changed: &Entries) -> Result<(), StoreError> {
        let Journals(inner) = &self.journals;
        let lagging: Vec<_> = {
            let followed = inner.followed.lock();
            match changed {
                Entries::All => followed.values().map(|one| (0, one.clone())).collect(),
                Entries::These(keys) => newest(keys)
                    .into_iter()
                    .filter_map(|(name, revision)| Some((revision, followed.get(name)?)))
                    // The feed also returns entries that this server has appended and emitted
                    // itself.
                    .filter(|(revision, journal)| journal.is_lagging(*revision))
                    .map(|(revision, journal)| (revision, journal.clone()))
                    .collect(),
            }
        };
        // After an error, the feed reader applies the same changes again.
        let catching_up = stream::iter(lagging.into_iter().map(Ok)).try_for_each_concurrent(
            READERS,
            async |(reached, journal)| {
                let namespace = &self.namespace;
                journal.catch_up(namespace, reached).await
            },
        );
        catching_up.await
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

/// Returns the newest revision of each journal.
fn newest(keys: &HashSet<String>) -> HashMap<&str, u64> {
    let mut newest = HashMap::new();
    for (revision, name) in keys.iter().filter_map(|key| parse(key)) {
        let known = newest.entry(name).or_default();
        *known = revision.max(*known);
    }
    newest
}

/// Parses a key of the feed: REVISION:NAME.
fn parse(key: &str) -> Option<(u64, &str)> {
    let (revision, name) = key.split_once(':')?;
    Some((revision.parse().ok()?, name))
}
