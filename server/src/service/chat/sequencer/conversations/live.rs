//! A single live conversation, and the state that all conversations share.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use uuid::Uuid;

use super::room_of;
use crate::config;
use crate::metrics::Metrics;
use crate::metrics::trace::Traces;
use crate::service::chat::presence::conversation::{Presence, PresenceConfig};
use crate::service::chat::presence::typing::Typing;
use crate::service::chat::sequencer::announced::AnnouncedChanges;
use crate::service::chat::sequencer::backlog::GapBacklog;
use crate::service::chat::sequencer::confirming::{ConfirmationRequests, EarlyConfirmations};
use crate::service::chat::sequencer::growing::{LiveStreams, StreamTempo};
use crate::service::chat::sequencer::order::Sequencer;
use crate::service::chat::sequencer::recorded::Recorded;
use crate::service::cluster::{Announcer, News, Typing as Typist};
use crate::service::rules::emissions::attendance::User;
use crate::service::rules::html::Rules;
use crate::store::{Committed, Revision};
use roomcast::{Room, SocketId};

/// The state that all conversations share.
#[derive(Debug)]
pub(in crate::service) struct SharedContext {
    /// The rules for cleaning the texts of messages or keeping them as plain text.
    pub(in crate::service) rules: Arc<Rules>,
    /// Limits outstanding confirmations. A message takes one permit for each socket of which it
    /// awaits one.
    pub(in crate::service) confirmations: Arc<Semaphore>,
    /// The number of permits reserved for messages whose senders want confirmations.
    pub(in crate::service::chat::sequencer) reserved: usize,
    /// Whether clients can recover sessions. Then no confirmations are requested, because recovery
    /// does not send a message again whose confirmation was requested.
    pub(in crate::service) has_recovery: bool,
    /// The timeout for receivers to confirm a message.
    pub(in crate::service) confirm_timeout: Duration,
    /// Announces changes to other servers, or `None` without an adapter.
    pub(in crate::service) announcer: Option<Announcer>,
    /// The changes emitted to members who have not joined.
    pub(in crate::service) announced: AnnouncedChanges,
    /// Confirmation requests of other servers.
    pub(in crate::service::chat::sequencer) confirmation_requests: Arc<ConfirmationRequests>,
    /// The timing of messages that are being written.
    pub(in crate::service) streams: StreamTempo,
    pub(in crate::service) traces: Traces,
    pub(in crate::service) metrics: Arc<Metrics>,
}

impl SharedContext {
    pub(in crate::service) fn new(
        rules: Arc<Rules>,
        limits: &config::Chat,
        has_recovery: bool,
        announcer: Option<Announcer>,
        traces: Traces,
        metrics: Arc<Metrics>,
    ) -> Self {
        let permits = limits.confirmations.min(Semaphore::MAX_PERMITS);
        Self {
            rules,
            confirmations: Arc::new(Semaphore::new(permits)),
            // Messages whose senders may want confirmations take at most the other half.
            reserved: permits / 2,
            has_recovery,
            confirm_timeout: limits.confirm_timeout,
            announcer,
            announced: AnnouncedChanges::default(),
            confirmation_requests: Arc::default(),
            streams: StreamTempo::of(&limits.streams),
            traces,
            metrics,
        }
    }

    /// Returns whether members who have not joined must be notified of an event now, and records it
    /// as emitted.
    ///
    /// Events without such a notification always count as new.
    pub(in crate::service::chat::sequencer) fn is_news(
        &self,
        event: &Committed,
        revision: Revision,
    ) -> bool {
        match event {
            Committed::Renamed(_)
            | Committed::Members { .. }
            | Committed::ConversationDeleted { .. } => {
                let announced = &self.announced;
                announced.insert(event.conversation_id(), revision.changes)
            }
            Committed::Message(_)
            | Committed::Repeated(_)
            | Committed::Edited(_)
            | Committed::Deleted { .. }
            | Committed::Annotated(_)
            | Committed::Announced(_) => true,
        }
    }

    /// Announces to other servers that a user types here or has stopped.
    pub(in crate::service) fn announce_typing(&self, id: Uuid, user: &User, is_typing: bool) {
        if let Some(announcer) = &self.announcer {
            announcer.announce(News::Typing(Typist {
                conversation_id: id,
                user_id: Arc::clone(&user.user_id),
                name: Arc::clone(&user.name),
                is_typing,
            }));
        }
    }
}

/// A conversation with joined, joining or recoverable sockets.
#[derive(Debug)]
pub(in crate::service) struct LiveConversation {
    pub(in crate::service) common: Arc<SharedContext>,
    pub(in crate::service) id: Uuid,
    pub(in crate::service) room: Room,
    pub(in crate::service) sequencer: Sequencer,
    pub(in crate::service) presence: Presence,
    pub(in crate::service) typing: Typing,
    /// The messages that are being written.
    pub(in crate::service) streams: LiveStreams,
    /// The commits that wait for a missing step, or the fact that they were dropped. `None` if no
    /// step is missing.
    pub(in crate::service) gap_backlog: Option<GapBacklog>,
    /// Removed users who still get the steps before their removal: the deadline by which their
    /// sockets must leave, and the number of the change that removed them.
    pub(in crate::service) leaving: BTreeMap<Arc<str>, (Instant, u64)>,
    /// Confirmations that the servers of the senders may still request.
    pub(in crate::service::chat::sequencer) early_confirmations: EarlyConfirmations,
    /// The number of pins: clients that are about to join and need the sequencer.
    pub(in crate::service::chat::sequencer) pins: usize,
    /// Until when a lost socket may be recovered. Until then all emissions must go through the
    /// room, which stores them for that socket.
    pub(in crate::service) recoverable_until: Option<Instant>,
    /// The steps emitted since a client of another server began to move here. `None` if no client
    /// moves.
    pub(in crate::service) recorded: Option<Recorded>,
    /// The number of the last change that may have removed a member or the conversation. Joins that
    /// have read the membership before it must read it again.
    pub(in crate::service) removed_at: u64,
    /// The number of the last change contained in a reload. Changes up to it are not emitted to the
    /// room again.
    pub(in crate::service::chat::sequencer) reloaded_at: u64,
    /// Sockets that were just removed, until the table of sockets is updated.
    pub(in crate::service) expelled: Vec<SocketId>,
    pub(super) scheduled: Option<Instant>,
    /// Whether the conversation leaves the table. Code that still finds it there must treat it as
    /// absent.
    pub(super) is_removed: bool,
}

impl LiveConversation {
    pub(super) fn new(id: Uuid, tempo: PresenceConfig, common: Arc<SharedContext>) -> Self {
        Self {
            common,
            id,
            room: room_of(id),
            sequencer: Sequencer::new(),
            presence: Presence::new(tempo),
            typing: Typing::default(),
            streams: LiveStreams::default(),
            gap_backlog: None,
            leaving: BTreeMap::new(),
            early_confirmations: EarlyConfirmations::default(),
            pins: 0,
            recoverable_until: None,
            recorded: None,
            removed_at: 0,
            reloaded_at: 0,
            expelled: Vec::new(),
            scheduled: None,
            is_removed: false,
        }
    }

    /// Returns the number of the last message emitted to the joined sockets.
    pub(in crate::service::chat) fn emitted_seq(&self) -> u64 {
        self.sequencer.emitted().map_or(0, |emitted| emitted.seq)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pins == 0
            && self.presence.is_empty()
            && self.typing.is_empty()
            && self.gap_backlog.is_none()
            && self.recoverable_until.is_none()
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        // An empty conversation has no receivers, so no timeout matters.
        let timeouts = self
            .presence
            .poll_timeout()
            .into_iter()
            .chain(self.typing.poll_timeout())
            .chain(self.streams.poll_timeout(self.common.streams))
            .chain(self.early_confirmations.poll_timeout())
            .chain(self.leaving.values().map(|(due, _)| *due))
            .chain(self.recoverable_until);
        if self.is_empty() {
            None
        } else {
            timeouts.min()
        }
    }
}
