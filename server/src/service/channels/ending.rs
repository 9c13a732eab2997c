//! Deleting channels, and revoking the answers of the backend, at all servers.

use std::time::Duration;

use uuid::Uuid;

use super::continuing::end;
use super::emitting::{DELETED_EVENT, DELETION, entry_of, is_deletion, key_of, room_of};
use super::peers::PeerRequest;
use super::publishing::stored;
use super::{Channels, NO_CHANNEL};
use crate::service::authorization::Allowed;
use crate::service::fault::ServiceError;
use crate::service::rules::commands::channels::{
    DeleteChannel, DeleteChannelEvent, EndedSubscriptions, Published, RevokeChannel,
};
use crate::service::rules::emissions::channels::EndReason;
use crate::store::{StoreError, Time};
use roomcast::{Io, Namespace, Room};

/// Deletes the events of a channel, and ends all subscriptions to it.
///
/// An entry tells the other servers, and followers that were absent. A call that fails in between
/// may be repeated.
pub(crate) async fn delete_channel(
    io: &Io,
    allowed: Allowed<DeleteChannel>,
) -> Result<Published, ServiceError> {
    let channels = io.state::<Channels>();
    let (by, DeleteChannel { channel }) = allowed.into_parts();
    let kind = channels.publishable(&channel, &by, None)?;
    if !kind.is_stored {
        let request = PeerRequest::Delete(channel.clone());
        let ended = channels.end_everywhere(io, request).await?;
        if ended.missing > 0 {
            return Err(ServiceError::unavailable(MISSING_PAUSE));
        }
        return Ok(Published {
            position: channels.positions(&channel).of_offset(0),
        });
    }
    // No event has a key that begins with a line end.
    let key = format!("\n{}", Uuid::now_v7());
    let mut append = entry_of(&kind, &channel, key, DELETION.to_owned());
    append.expires_at = Some(append.created_at.after(kind.history_age.max(TOLD)));
    let (journal, any_time) = (append.journal.clone(), append.created_at.after(TOLD));
    let (journals, namespace) = (channels.0.journals.clone(), io.of("/"));
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
    channels.0.usage.count_soon();
    Ok(Published {
        position: channels.positions(&channel).of_entry(&entry),
    })
}

/// Deletes an event of a channel. Its id stays taken, and its position stays valid.
pub(crate) async fn delete_event(
    io: &Io,
    allowed: Allowed<DeleteChannelEvent>,
) -> Result<Published, ServiceError> {
    let (by, DeleteChannelEvent { channel, id, user }) = allowed.into_parts();
    let channels = io.state::<Channels>();
    channels.publishable(&channel, &by, None)?;
    let (room, key) = (room_of(&channel), key_of(user.as_deref(), &id));
    let store = channels.0.journals.store();
    let found = store.journal_entry(room.as_str(), &key).await?;
    let found = found.filter(|entry| !is_deletion(entry) && entry.expires_at > Some(Time::now()));
    let entry = found.ok_or(ServiceError::NotFound("the channel has no such event"))?;
    // Servers that have not emitted the event yet do not emit it any more.
    store
        .overwrite_entry(room.as_str(), &key, DELETED_EVENT)
        .await?;
    Ok(Published {
        position: channels.positions(&channel).of_entry(&entry),
    })
}

/// Makes the answers of the backend about a channel void, and ends the subscriptions that they
/// allowed.
pub(crate) async fn revoke_channel(
    io: &Io,
    allowed: Allowed<RevokeChannel>,
) -> Result<EndedSubscriptions, ServiceError> {
    let (_, RevokeChannel { channel, new }) = allowed.into_parts();
    let channels = io.state::<Channels>();
    channels.find(&channel).ok_or(NO_CHANNEL)?;
    let request = PeerRequest::Revoke {
        channel,
        user: new.user_id,
    };
    channels.end_everywhere(io, request).await
}

impl Channels {
    /// Makes the answers void at this server, and ends the subscriptions. Returns their number.
    pub(super) fn revoke_local(&self, io: &Io, channel: &str, user: Option<&str>) -> usize {
        let room = room_of(channel);
        // Other tasks end subscriptions as soon as the answers are void.
        let followers = io.of("/").local().to(room.clone()).sockets();
        if let Some(asker) = &self.0.asker {
            asker.revoke(|question| question.is_of(channel, user));
        }
        let is_meant = |subject: &str| user.is_none_or(|user| user == subject);
        let meant = followers
            .into_iter()
            .filter(|socket| is_meant(&socket.principal().subject));
        let ended = meant.filter(|socket| {
            self.recheck_one(socket, &room);
            !socket.is_in(room.as_str())
        });
        ended.count()
    }

    /// Ends all subscriptions at this server to a channel that is deleted. Returns their number.
    pub(super) fn end_local(io: &Io, channel: &str) -> usize {
        let room = room_of(channel);
        let namespace = io.of("/");
        let sockets = namespace.local().to(room.clone()).sockets();
        for socket in &sockets {
            end(socket, &room, channel, EndReason::Deleted);
        }
        // Those that are recovered later find that they are not in the room. Those that have begun
        // to follow meanwhile stay.
        leave_disconnected(&namespace, room);
        sockets.len()
    }
}

/// Removes the disconnected but recoverable sockets from a room.
pub(super) fn leave_disconnected(namespace: &Namespace, room: Room) {
    let members = namespace.local().to(room.clone());
    let connected = members.sockets().into_iter();
    let connected: Vec<Room> = connected.map(|one| Room::from(one.id().as_str())).collect();
    members.except(connected).leave(room);
}

/// How long the entry about the deletion is stored at least, for other servers.
const TOLD: Duration = Duration::from_secs(3600);
/// How long to wait before a deletion is repeated, if a server did not answer.
const MISSING_PAUSE: Duration = Duration::from_secs(1);
