//! Publishing to channels, by clients and by services.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::emitting::{
    body_of, emit_unstored, entry_of, event_of, key_of, room_of, unstored_event,
};
use super::hooking::observe;
use super::kinds::{Kind, Values};
use super::rights::Grant;
use super::{Channels, NO_CHANNEL, check_name};
use crate::auth::{Permission, Principal};
use crate::metrics::Counter;
use crate::service::authorization::Allowed;
use crate::service::fault::ServiceError;
use crate::service::hooks::Source;
use crate::service::journals;
use crate::service::rules::bounds::{CHANNEL_EVENTS, CLIENT_ID_CHARS};
use crate::service::rules::commands::channels::{
    EventForChannel, NewChannelEvent, NewChannelEvents, PublishAsService, PublishToChannel,
    PublishToChannels, Published, PublishedAsService, PublishedEvents,
};
use crate::service::rules::policy;
use crate::store::{Append, Appended, ChannelPublication, Entry, StoreError};
use roomcast::{Namespace, Socket};

/// An event that may be stored.
struct Accepted {
    kind: Arc<Kind>,
    channel: Arc<str>,
    append: Append,
}

impl Accepted {
    /// Checks an event.
    fn new(
        kind: Arc<Kind>,
        channel: Arc<str>,
        new: NewChannelEvent,
        publisher: Option<&str>,
    ) -> Result<Self, ServiceError> {
        let NewChannelEvent { event, data, id } = new;
        kind.check_event(&event, data.get())?;
        let (key, body) = (key_of(publisher, &id), body_of(&event, &data));
        let append = entry_of(&kind, &channel, key, body);
        Ok(Self {
            kind,
            channel,
            append,
        })
    }
}

/// What a service has written of an event for a channel.
#[derive(Deserialize)]
struct PublishedRow {
    id: String,
    data: Box<RawValue>,
}

impl Channels {
    /// Publishes an event of a client. Its id is one of the user's own ids.
    pub(crate) async fn publish(
        &self,
        allowed: Allowed<PublishToChannel>,
        socket: &Socket,
    ) -> Result<Published, ServiceError> {
        let (by, command) = allowed.into_parts();
        let PublishToChannel {
            channel,
            event,
            data,
            id,
            token,
        } = command;
        let new = NewChannelEvent { event, data, id };
        check_name(&channel)?;
        check_form(&new)?;
        let allows = |kind: &Kind, by: &_, values: &Values<'_>, grant: Option<&_>| {
            self.may_publish(kind, values, by, grant) || kind.may_follow(by, values, grant)
        };
        let admitting = self.admit(&channel, &by, token.as_deref(), allows);
        let (_, grant) = admitting.await?;
        let kind = self.publishable(&channel, &by, grant.as_ref())?;
        let accepted = Accepted::new(kind, channel.into(), new, Some(&by.subject))?;
        self.store_event(accepted, Source::of(socket), &socket.namespace())
            .await
    }

    /// Publishes one event or several events of a service to a channel.
    pub(crate) async fn publish_as_service(
        &self,
        allowed: Allowed<PublishAsService>,
        namespace: &Namespace,
    ) -> Result<PublishedAsService, ServiceError> {
        let (by, PublishAsService { channel, new }) = allowed.into_parts();
        if let NewChannelEvents::One(new) = &new {
            check_form(new)?;
        }
        let kind = self.publishable(&channel, &by, None)?;
        let channel = Arc::from(channel);
        match new {
            NewChannelEvents::One(new) => {
                let accepted = Accepted::new(kind, channel, new, None)?;
                let published = self.store_event(accepted, Source::Service, namespace);
                let published = published.await?;
                Ok(PublishedAsService::One(published))
            }
            NewChannelEvents::Many { events } => {
                let accepted = accept_all(events, |new| {
                    check_form(&new)?;
                    Accepted::new(Arc::clone(&kind), Arc::clone(&channel), new, None)
                })?;
                self.pace_all(&accepted)?;
                let published = self.store_events(accepted, namespace).await?;
                Ok(PublishedAsService::Many(published))
            }
        }
    }

    /// Publishes events of a service to several channels.
    pub(crate) async fn publish_to_channels(
        &self,
        allowed: Allowed<PublishToChannels>,
        namespace: &Namespace,
    ) -> Result<PublishedEvents, ServiceError> {
        let (by, PublishToChannels { events }) = allowed.into_parts();
        let accepted = accept_all(events, |new| {
            let EventForChannel {
                channel,
                event,
                data,
                id,
            } = new;
            let found = self.find(&channel);
            let found = found.filter(|(kind, values)| self.may_publish(kind, values, &by, None));
            let (kind, _) = found.ok_or_else(|| ServiceError::Unfit {
                field: "channel".into(),
                problem: "is no channel to which the caller may publish",
            })?;
            let new = NewChannelEvent { event, data, id };
            check_form(&new)?;
            Accepted::new(kind, channel.into(), new, None)
        })?;
        self.pace_all(&accepted)?;
        self.store_events(accepted, namespace).await
    }

    /// Publishes events that services have written in transactions of their own. An event that is
    /// there stays as it is. Returns the positions of the wrong ones with the reasons.
    ///
    /// # Errors
    ///
    /// If the others cannot be stored now.
    pub(in crate::service) async fn publish_rows(
        &self,
        rows: Vec<ChannelPublication>,
        namespace: &Namespace,
    ) -> Result<Vec<(i64, String)>, StoreError> {
        let (mut all, mut refused) = (Vec::new(), Vec::new());
        for row in rows {
            let position = row.position;
            match self.accept_row(row) {
                Ok(accepted) => all.push(accepted),
                Err(wrong) => refused.push((position, wrong.to_string())),
            }
        }
        // No limit of a rate applies: it would delay all publications. A full history stores them
        // as well: their transactions are committed.
        let appends = all.iter().map(|one| one.append.clone()).collect();
        let appended = self.0.journals.append_all(namespace, appends).await?;
        for (accepted, appended) in all.iter().zip(&appended) {
            if let Ok((entry, is_new)) = stored(appended) {
                let of = (&*accepted.kind, &*accepted.channel);
                self.note_stored(of, &Source::Service, (entry, is_new), namespace);
            }
        }
        Ok(refused)
    }

    fn accept_row(&self, row: ChannelPublication) -> Result<Accepted, ServiceError> {
        let ChannelPublication {
            channel,
            event,
            payload,
            ..
        } = row;
        let PublishedRow { id, data } = serde_json::from_str(&payload)
            .map_err(|_| ServiceError::invalid("id", "must be a text"))?;
        let (kind, _) = self.find(&channel).ok_or(NO_CHANNEL)?;
        if !kind.is_for_services() {
            return Err(ServiceError::Denied("may not publish to this channel"));
        }
        if !kind.is_stored {
            // Several servers read a row, and only what is stored is emitted once.
            return Err(ServiceError::Conflict("the channel stores no events"));
        }
        let new = NewChannelEvent { event, data, id };
        check_form(&new)?;
        Accepted::new(kind, channel.into(), new, None)
    }

    /// Returns the kind of a channel to which a user may publish.
    ///
    /// # Errors
    ///
    /// A user who may follow the channel learns that publishing is denied. To other users the
    /// channel does not exist.
    pub(super) fn publishable(
        &self,
        channel: &str,
        by: &Principal,
        grant: Option<&Grant>,
    ) -> Result<Arc<Kind>, ServiceError> {
        let (kind, values) = self.find(channel).ok_or(NO_CHANNEL)?;
        if self.may_publish(&kind, &values, by, grant) {
            return Ok(kind);
        }
        Err(if kind.may_follow(by, &values, grant) {
            ServiceError::Denied("may not publish to this channel")
        } else {
            NO_CHANNEL
        })
    }

    fn may_publish(
        &self,
        kind: &Kind,
        values: &Values<'_>,
        by: &Principal,
        grant: Option<&Grant>,
    ) -> bool {
        let is_service = self.0.access.allows(by, Permission::ChannelsPublish);
        kind.may_publish(by, values, is_service, grant)
    }

    /// Stores an event and emits it to the followers. An event whose id is known stays as it is.
    async fn store_event(
        &self,
        accepted: Accepted,
        source: Source,
        namespace: &Namespace,
    ) -> Result<Published, ServiceError> {
        self.pace(&accepted.kind, 1)?;
        if !accepted.kind.is_stored {
            let position = self.emit(&accepted, &source, namespace)?;
            return Ok(Published { position });
        }
        self.check_space(std::slice::from_ref(&accepted)).await?;
        let Accepted {
            kind,
            channel,
            append,
        } = accepted;
        let appended = self.0.journals.append(namespace, append).await?;
        let stored = stored(&appended)?;
        let position = self.note_stored((&kind, &channel), &source, stored, namespace);
        Ok(Published { position })
    }

    /// Counts a stored event, and passes it to webhooks and traces, unless it was there. Returns
    /// its position.
    fn note_stored(
        &self,
        (kind, channel): (&Kind, &str),
        source: &Source,
        (entry, is_new): (&Entry, bool),
        namespace: &Namespace,
    ) -> String {
        let positions = self.positions(channel);
        if is_new {
            self.0.metrics.count(counter_of(source));
            let event = || event_of(entry, &positions);
            let journal = room_of(channel);
            observe(namespace.io(), channel, &journal, event);
            self.hook_event(kind, source, channel, event);
            self.trim_later(journal.as_str(), entry.revision, kind.history_events);
            self.0.usage.add(&kind.name, entry.body.len());
        }
        positions.of_entry(entry)
    }

    /// Emits an event that is not stored. Returns its position.
    fn emit(
        &self,
        accepted: &Accepted,
        source: &Source,
        namespace: &Namespace,
    ) -> Result<String, ServiceError> {
        let Accepted {
            kind,
            channel,
            append,
        } = accepted;
        let positions = self.positions(channel);
        emit_unstored(namespace, channel, &positions, append)?;
        self.0.metrics.count(counter_of(source));
        let event = || unstored_event(append, &positions);
        observe(namespace.io(), channel, &room_of(channel), event);
        self.hook_event(kind, source, channel, event);
        Ok(positions.of_offset(0))
    }

    /// Counts events that are published together, against the limit of their kind.
    fn pace(&self, kind: &Kind, events: u32) -> Result<(), ServiceError> {
        let pace = kind.pace.as_ref();
        pace.map_or(Ok(()), |pace| pace.take(events))
            .map_err(|wait| {
                self.0.metrics.count(Counter::ChannelPublishes);
                ServiceError::limited(wait)
            })
    }

    /// Counts the events of a list, against the limits of their kinds.
    fn pace_all(&self, accepted: &[Accepted]) -> Result<(), ServiceError> {
        let mut kinds: Vec<(&Arc<Kind>, u32)> = Vec::new();
        for Accepted { kind, .. } in accepted {
            match kinds.iter_mut().find(|(known, _)| Arc::ptr_eq(known, kind)) {
                Some((_, events)) => *events += 1,
                None => kinds.push((kind, 1)),
            }
        }
        kinds
            .into_iter()
            .try_for_each(|(kind, events)| self.pace(kind, events))
    }

    /// Checks that events may be stored, or are there already.
    async fn check_space(&self, accepted: &[Accepted]) -> Result<(), ServiceError> {
        for Accepted { kind, append, .. } in accepted.iter().filter(|one| one.kind.is_stored) {
            if let Err(full) = self.check_stored(kind) {
                let store = self.0.journals.store();
                let known = store.journal_entry(&append.journal, &append.key).await?;
                known.ok_or(full)?;
            }
        }
        Ok(())
    }

    /// Stores events in one transaction, like [`store_event`](Self::store_event).
    async fn store_events(
        &self,
        accepted: Vec<Accepted>,
        namespace: &Namespace,
    ) -> Result<PublishedEvents, ServiceError> {
        self.check_space(&accepted).await?;
        let appends = accepted.iter().filter(|one| one.kind.is_stored);
        let appends: Vec<Append> = appends.map(|one| one.append.clone()).collect();
        let appended = match appends.is_empty() {
            true => Vec::new(),
            false => self.0.journals.append_all(namespace, appends).await?,
        };
        let mut appended = appended.iter();
        let mut positions = Vec::with_capacity(accepted.len());
        let mut failed = None;
        // A failure does not keep later events, which are stored, from being counted.
        for accepted in &accepted {
            let emitted = if accepted.kind.is_stored {
                let appended = appended.next().ok_or(StoreError::Unknown)?;
                stored(appended).map(|stored| {
                    let of = (&*accepted.kind, &*accepted.channel);
                    self.note_stored(of, &Source::Service, stored, namespace)
                })
            } else {
                self.emit(accepted, &Source::Service, namespace)
            };
            match emitted {
                Ok(position) => positions.push(position),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        match failed {
            None => Ok(PublishedEvents { positions }),
            Some(error) => Err(error),
        }
    }
}

fn counter_of(source: &Source) -> Counter {
    match source {
        Source::Service => Counter::ChannelEventsOfServices,
        Source::User(_) | Source::Guests(_) | Source::Rooms => Counter::ChannelEventsOfClients,
    }
}

/// Checks the parts of an event that do not depend on its channel.
fn check_form(new: &NewChannelEvent) -> Result<(), ServiceError> {
    if let Some(wrong) = policy::application_event_fault(&new.event) {
        return Err(ServiceError::invalid("event", wrong));
    }
    let id = &new.id;
    if id.is_empty()
        || id.chars().nth(CLIENT_ID_CHARS).is_some()
        || id.chars().any(char::is_control)
    {
        let problem = format!("must have 1 to {CLIENT_ID_CHARS} characters, none of them control");
        return Err(ServiceError::invalid("id", problem));
    }
    Ok(())
}

/// Checks all events of a list. The error names the field of the first wrong one with its index.
fn accept_all<T>(
    events: Vec<T>,
    accept: impl Fn(T) -> Result<Accepted, ServiceError>,
) -> Result<Vec<Accepted>, ServiceError> {
    if !(1..=CHANNEL_EVENTS).contains(&events.len()) {
        return Err(ServiceError::invalid("events", "must be 1 to 1000"));
    }
    let within = |(n, event)| accept(event).map_err(|error| error.within(&format!("events[{n}]")));
    events.into_iter().enumerate().map(within).collect()
}

/// Returns a stored event, and whether it was not stored before.
pub(super) fn stored(appended: &Appended) -> Result<(&Entry, bool), ServiceError> {
    // An event is no open entry, so it is always stored.
    journals::stored(appended).ok_or(ServiceError::Conflict("the event cannot be stored"))
}
