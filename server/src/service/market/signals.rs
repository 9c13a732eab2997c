//! Signals: one journal, whose categories are channels.

use std::sync::Arc;

use uuid::Uuid;

use super::{Market, checks};
use crate::service::authorization::Allowed;
use crate::service::fault::ServiceError;
use crate::service::journals::{Snapshot, Subscription, Teller, read, write};
use crate::service::rules::commands::signals::{
    PublishSignal, SubscribeSignals, UnsubscribeSignals,
};
use crate::service::rules::emissions::published::{Subscribed, Unsubscribed, Update};
use crate::service::rules::emissions::signals::{
    SIGNAL_NEW, SIGNALS_SUBSCRIBED, SIGNALS_UNSUBSCRIBED, Signal, Signals,
};
use crate::service::rules::rooms::room_named;
use crate::store::{Append, Appended, Entry, IfOpen, Time};
use roomcast::{Namespace, Room, Socket};

impl From<Snapshot> for Signals {
    fn from(snapshot: Snapshot) -> Self {
        Self {
            revision: snapshot.revision,
            signals: snapshot.entries.iter().filter_map(read).collect(),
            has_more: snapshot.has_more,
        }
    }
}

struct SignalsTeller;

impl Teller for SignalsTeller {
    fn tell(&self, to: &Namespace, _: &str, entries: &[Entry]) {
        for entry in entries {
            let Some(body) = read::<Signal>(entry) else {
                continue;
            };
            let revision = entry.revision;
            let all = to.local().to(room_of(None));
            // A socket that is in both rooms gets the signal once.
            let all = match &body.channel_id {
                Some(_) => all.to(room_of(body.channel_id.as_deref())),
                None => all,
            };
            SIGNAL_NEW.emit(all, &Update { body, revision });
        }
    }
}

impl Market {
    /// Lets a socket follow all signals, or those of a channel.
    pub(crate) async fn subscribe_signals(
        &self,
        allowed: Allowed<SubscribeSignals>,
        socket: &Socket,
    ) -> Result<Subscribed<Signals>, ServiceError> {
        let (_, SubscribeSignals { channel_id }) = allowed.into_parts();
        if let Some(channel) = &channel_id {
            checks::name("channelId", channel)?;
        }
        let room = room_of(channel_id.as_deref());
        // A socket that subscribes again takes no further room.
        if !socket.is_in(room.as_str()) {
            let channels = socket.rooms().into_iter().filter(is_room).count();
            if channels >= self.0.config.channels {
                return Err(ServiceError::Conflict("subscribed to too many channels"));
            }
        }
        self.follow_signals(room, channel_id.as_deref(), NEWEST, socket)
            .await
    }

    async fn follow_signals(
        &self,
        room: Room,
        category: Option<&str>,
        newest: usize,
        socket: &Socket,
    ) -> Result<Subscribed<Signals>, ServiceError> {
        let subscription = Subscription {
            journal: JOURNAL.into(),
            category,
            open: 0,
            newest,
            is_shared: newest == NEWEST,
            room,
            teller: Arc::new(SignalsTeller),
            event: &SIGNALS_SUBSCRIBED,
        };
        let journals = &self.0.journals;
        journals
            .subscribe(subscription, socket, Signals::from)
            .await
    }

    /// Lets a socket follow signals no longer.
    pub(crate) fn unsubscribe_signals(
        &self,
        allowed: Allowed<UnsubscribeSignals>,
        socket: &Socket,
    ) -> Result<Unsubscribed, ServiceError> {
        let (_, UnsubscribeSignals { channel_id }) = allowed.into_parts();
        if let Some(channel) = &channel_id {
            checks::name("channelId", channel)?;
        }
        let room = room_of(channel_id.as_deref());
        let journals = &self.0.journals;
        Ok(journals.unsubscribe(&room, socket, &SIGNALS_UNSUBSCRIBED))
    }

    pub(super) async fn renew_signals(
        &self,
        room: &Room,
        socket: &Socket,
    ) -> Result<(), ServiceError> {
        let channel = room.as_str().strip_prefix(JOURNAL).unwrap_or_default();
        match (channel, channel.strip_prefix(':')) {
            ("", _) => {
                self.follow_signals(room.clone(), None, NEWEST, socket)
                    .await?
            }
            (_, Some(channel)) => {
                self.follow_signals(room.clone(), Some(channel), NEWEST, socket)
                    .await?
            }
            // The name of the room is a hash, from which the channel is not known: the socket is told what comes, without a snapshot.
            (_, None) => self.follow_signals(room.clone(), None, 0, socket).await?,
        };
        Ok(())
    }

    /// Publishes a signal to those who follow all, and to those who follow its channel.
    pub(crate) async fn publish_signal(
        &self,
        allowed: Allowed<PublishSignal>,
        namespace: &Namespace,
    ) -> Result<Signal, ServiceError> {
        let (_, new) = allowed.into_parts();
        for (field, given) in [
            ("signalId", new.signal_id.as_deref()),
            ("channelId", new.channel_id.as_deref()),
            ("providerId", Some(&*new.provider_id)),
            ("providerName", Some(&*new.provider_name)),
        ] {
            given.map_or(Ok(()), |given| checks::name(field, given))?;
        }
        checks::symbol("symbol", &new.symbol)?;
        for (field, price) in [
            ("entryPrice", new.entry_price),
            ("stopLoss", new.stop_loss),
            ("takeProfit", new.take_profit),
        ] {
            price.map_or(Ok(()), |price| checks::above_zero(field, price))?;
        }
        if !(0.0..=100.0).contains(&new.confidence) {
            return Err(ServiceError::invalid("confidence", "must be from 0 to 100"));
        }
        let has_time = new.timestamp.is_some();
        let new_id = || Uuid::now_v7().to_string();
        let signal = Signal {
            signal_id: new.signal_id.unwrap_or_else(new_id),
            channel_id: new.channel_id,
            provider_id: new.provider_id,
            provider_name: new.provider_name,
            symbol: new.symbol,
            action: new.action,
            entry_price: new.entry_price,
            stop_loss: new.stop_loss,
            take_profit: new.take_profit,
            confidence: new.confidence,
            timestamp: new.timestamp.unwrap_or_else(Time::now),
        };
        let append = Append {
            journal: JOURNAL.into(),
            key: signal.signal_id.clone(),
            body: write(&signal),
            category: signal.channel_id.clone(),
            is_open: false,
            if_open: IfOpen::Refuse,
            needs_open: false,
            created_at: Time::now(),
            expires_at: None,
            most_open: 0,
        };
        let known = match self.0.journals.append(namespace, append).await? {
            Appended::Stored(Entry { revision, .. }) => {
                let journals = &self.0.journals;
                journals.hook(&SIGNAL_NEW, || Update {
                    body: signal.clone(),
                    revision,
                });
                return Ok(signal);
            }
            Appended::There(entry) => read::<Signal>(&entry),
            Appended::Absent | Appended::Full => None,
        };
        let timestamp = known.as_ref().map(|known| known.timestamp);
        let timestamp = timestamp.filter(|_| !has_time).unwrap_or(signal.timestamp);
        let same = Signal {
            timestamp,
            ..signal
        };
        known
            .filter(|known| *known == same)
            // A service that repeats its request gets the first answer; another signal under the
            // same id is a mistake it has to hear of.
            .ok_or(ServiceError::Conflict("another signal has this id"))
    }
}

/// The room of all signals, or of those of a channel.
fn room_of(channel: Option<&str>) -> Room {
    match channel {
        Some(channel) => room_named(JOURNAL, channel),
        None => Room::from(JOURNAL),
    }
}

/// Whether a room is one of signals.
pub(super) fn is_room(room: &Room) -> bool {
    let rest = room.as_str().strip_prefix(JOURNAL);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '#']))
}

/// Whether a room is one of signals that says of which channel.
pub(super) fn is_named(room: &Room) -> bool {
    let rest = room.as_str().strip_prefix(JOURNAL);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
}

pub(super) const JOURNAL: &str = "signals";
/// How many of the last signals a snapshot has.
const NEWEST: usize = 20;
