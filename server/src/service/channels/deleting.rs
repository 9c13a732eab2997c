//! Deleting channels.

use std::time::Duration;

use uuid::Uuid;

use super::Channels;
use super::emitting::{DELETION, entry_of};
use super::peers::PeerRequest;
use super::publishing::stored;
use crate::service::authorization::Allowed;
use crate::service::fault::ServiceError;
use crate::service::rules::commands::channels::{DeleteChannel, Published};
use crate::store::StoreError;
use roomcast::Io;

/// Deletes the events of a channel, and ends all subscriptions to it.
pub(crate) async fn delete_channel(
    io: &Io,
    allowed: Allowed<DeleteChannel>,
) -> Result<Published, ServiceError> {
    io.state::<Channels>().delete(allowed, io).await
}

impl Channels {
    /// Deletes the events of a channel, and ends all subscriptions to it.
    ///
    /// An entry tells the other servers, and followers that were absent. A call that fails in
    /// between may be repeated.
    async fn delete(
        &self,
        allowed: Allowed<DeleteChannel>,
        io: &Io,
    ) -> Result<Published, ServiceError> {
        let (by, DeleteChannel { channel }) = allowed.into_parts();
        let kind = self.publishable(&channel, &by, None)?;
        if !kind.is_stored {
            let request = PeerRequest::Delete(channel.clone());
            let (_, missing) = self.end_everywhere(io, &request).await;
            if missing > 0 {
                return Err(ServiceError::unavailable(MISSING_PAUSE));
            }
            return Ok(Published {
                position: self.positions(&channel).of_offset(0),
            });
        }
        // No event has a key that begins with a line end.
        let key = format!("\n{}", Uuid::now_v7());
        let append = entry_of(
            &channel,
            key,
            DELETION.to_owned(),
            kind.history_age.max(TOLD),
        );
        let (journal, any_time) = (append.journal.clone(), append.created_at.after(TOLD));
        let (journals, namespace) = (self.0.journals.clone(), io.of("/"));
        // Both steps are taken even if the caller gives up.
        let deleting = tokio::spawn(async move {
            let appended = journals.append(&namespace, append).await?;
            let (entry, _) = stored(&appended)?;
            let store = journals.store();
            // The clocks of servers differ, so that every time counts.
            store
                .trim_journal(&journal, entry.revision, any_time)
                .await?;
            Ok::<_, ServiceError>(entry.clone())
        });
        let entry = deleting.await.map_err(|_| StoreError::Unknown)??;
        Ok(Published {
            position: self.positions(&channel).of_entry(&entry),
        })
    }
}

/// How long the entry about the deletion is stored at least, for other servers.
const TOLD: Duration = Duration::from_secs(3600);
/// How long to wait before a deletion is repeated, if a server did not answer.
const MISSING_PAUSE: Duration = Duration::from_secs(1);
