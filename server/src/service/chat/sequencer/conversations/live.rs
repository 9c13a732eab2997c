//! One conversation in which somebody is, and what all of these share.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use uuid::Uuid;

use super::room_of;
use crate::config;
use crate::metrics::Metrics;
use crate::service::chat::presence::conversation::{Presence, Tempo};
use crate::service::chat::presence::typing::Typing;
use crate::service::chat::sequencer::behind::BehindGap;
use crate::service::chat::sequencer::confirming::{AskedAhead, Questions};
use crate::service::chat::sequencer::order::Sequencer;
use crate::service::chat::sequencer::recorded::Recorded;
use crate::service::chat::sequencer::told::ToldChanges;
use crate::service::cluster::{Announcer, News, Typing as Typist};
use crate::service::rules::emissions::attendance::User;
use crate::service::rules::html::Rules;
use crate::store::{Committed, Revision};
use roomcast::{Room, SocketId};

/// What all conversations share.
#[derive(Debug)]
pub(in crate::service) struct Common {
    /// The rules by which the texts of messages are cleaned or kept as text.
    pub(in crate::service) rules: Arc<Rules>,
    /// One permit for each confirmation that may still come.
    pub(in crate::service) confirmations: Arc<Semaphore>,
    /// How many of these are left to messages whose senders want to be told of confirmations.
    pub(in crate::service::chat::sequencer) reserved: usize,
    /// Whether clients may be recovered: what asks to be confirmed would not be sent to them again.
    pub(in crate::service) has_recovery: bool,
    /// How long receivers may take to confirm a message.
    pub(in crate::service) confirm_timeout: Duration,
    /// Tells other servers what is done at this one; `None` without an adapter.
    pub(in crate::service) announcer: Option<Announcer>,
    /// What members were told who are in no conversation here.
    pub(in crate::service) told: ToldChanges,
    /// Messages of other servers that are about to be shown.
    pub(in crate::service::chat::sequencer) questions: Arc<Questions>,
    pub(in crate::service) metrics: Arc<Metrics>,
}

impl Common {
    pub(in crate::service) fn new(
        rules: Arc<Rules>,
        limits: &config::Chat,
        has_recovery: bool,
        announcer: Option<Announcer>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let places = limits.confirmations.min(Semaphore::MAX_PERMITS);
        Self {
            rules,
            confirmations: Arc::new(Semaphore::new(places)),
            // Messages that are asked about only in case their senders want it take at most the
            // other half.
            reserved: places / 2,
            has_recovery,
            confirm_timeout: limits.confirm_timeout,
            announcer,
            told: ToldChanges::default(),
            questions: Arc::default(),
            metrics,
        }
    }

    /// Whether members who are not in the conversation are to be told of something now; it is noted as told.
    /// What they are not told of is always news.
    pub(in crate::service::chat::sequencer) fn is_news(
        &self,
        event: &Committed,
        revision: Revision,
    ) -> bool {
        match event {
            Committed::Renamed(_)
            | Committed::Members { .. }
            | Committed::ConversationDeleted { .. } => {
                let told = &self.told;
                told.insert(event.conversation_id(), revision.changes)
            }
            Committed::Message(_)
            | Committed::Repeated(_)
            | Committed::Edited(_)
            | Committed::Deleted { .. }
            | Committed::Annotated(_)
            | Committed::Announced(_) => true,
        }
    }

    /// Lets other servers tell that somebody types here or has stopped.
    pub(in crate::service) fn announce_typing(&self, id: Uuid, user: &User, is_typing: bool) {
        if let Some(announcer) = &self.announcer {
            announcer.tell(News::Typing(Typist {
                conversation_id: id,
                user_id: Arc::clone(&user.user_id),
                name: Arc::clone(&user.name),
                is_typing,
            }));
        }
    }
}

/// A conversation in which somebody is, or may be again any moment.
#[derive(Debug)]
pub(in crate::service) struct Live {
    pub(in crate::service) common: Arc<Common>,
    pub(in crate::service) id: Uuid,
    pub(in crate::service) room: Room,
    pub(in crate::service) sequencer: Sequencer,
    pub(in crate::service) presence: Presence,
    pub(in crate::service) typing: Typing,
    /// What was stored and waits for something stored before it; none if nothing is missing.
    pub(in crate::service) behind_gap: Option<BehindGap>,
    /// Users that another server has removed and whose sockets are to leave: until when they may wait, and the change.
    pub(in crate::service) leaving: BTreeMap<Arc<str>, (Instant, u64)>,
    /// Confirmations for which the servers of the senders may still ask.
    pub(in crate::service::chat::sequencer) asked_ahead: AskedAhead,
    /// How many are just about to join and need the sequencer.
    pub(in crate::service::chat::sequencer) pins: usize,
    /// Until when a socket that was lost may come back as the same one: all that is emitted until
    /// then has to go out to the room, where it is kept for that socket.
    pub(in crate::service) kept_until: Option<Instant>,
    /// The steps that are emitted while a client of another server is on its way into the conversation, which it pins.
    pub(in crate::service) recorded: Option<Recorded>,
    /// The number of the last change that removed a member: who has asked before that whether it is a
    /// member asks again.
    pub(in crate::service) removed_at: u64,
    /// The number of the last change that is part of the state which a reload has shown: the change itself is not
    /// shown again.
    pub(in crate::service::chat::sequencer) reloaded_at: u64,
    /// Sockets that were just taken out, to be noted in the table of sockets.
    pub(in crate::service) expelled: Vec<SocketId>,
    pub(super) scheduled: Option<Instant>,
    /// Taken out of the table; whoever still finds it looks again.
    pub(super) is_gone: bool,
}

impl Live {
    pub(super) fn new(id: Uuid, tempo: Tempo, common: Arc<Common>) -> Self {
        Self {
            common,
            id,
            room: room_of(id),
            sequencer: Sequencer::new(),
            presence: Presence::new(tempo),
            typing: Typing::default(),
            behind_gap: None,
            leaving: BTreeMap::new(),
            asked_ahead: AskedAhead::default(),
            pins: 0,
            kept_until: None,
            recorded: None,
            removed_at: 0,
            reloaded_at: 0,
            expelled: Vec::new(),
            scheduled: None,
            is_gone: false,
        }
    }

    /// The number of the last message that was told to those who are here.
    pub(in crate::service::chat) fn told(&self) -> u64 {
        self.sequencer.emitted().map_or(0, |emitted| emitted.seq)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pins == 0
            && self.presence.is_empty()
            && self.typing.is_empty()
            && self.behind_gap.is_none()
            && self.kept_until.is_none()
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        // With nobody here there is nobody to tell.
        let timeouts = self
            .presence
            .poll_timeout()
            .into_iter()
            .chain(self.typing.poll_timeout())
            .chain(self.asked_ahead.poll_timeout())
            .chain(self.leaving.values().map(|(due, _)| *due))
            .chain(self.kept_until);
        if self.is_empty() {
            None
        } else {
            timeouts.min()
        }
    }
}
