//! Pages of a channel's events.

use crate::service::channels::emitting::{event_of, is_deletion, room_of};
use crate::service::channels::position::{Positions, Sent};
use crate::service::fault::ServiceError;
use crate::service::journals::Attachment;
use crate::service::rules::commands::channels::ChannelEvents;
use crate::service::rules::emissions::channels::ChannelEvent;
use crate::store::{Entry, Store, Stretch, Time};

/// Where a page begins.
#[derive(Clone, Copy, Debug)]
pub(in crate::service::channels) enum Start {
    /// The newest events, or the newest before an offset.
    Newest(Option<u64>),
    /// The oldest events after a position.
    After(Sent),
}

/// Reads at most `limit` events, for a socket that joins if it has all events then. If the channel
/// has only its newest event (`is_last`), a client that has received an earlier one has missed
/// nothing else.
///
/// # Errors
///
/// If the channel has not reached the position, or the store cannot be read.
pub(in crate::service::channels) async fn read(
    store: &Store,
    channel: &str,
    positions: &Positions,
    start: Start,
    (is_last, limit): (bool, usize),
) -> Result<Attachment<ChannelEvents>, ServiceError> {
    let room = room_of(channel);
    let revision = store.journal_revision(room.as_str()).await?;
    if matches!(start, Start::After(Sent::Here(place)) if place.offset > revision) {
        return Err(ServiceError::Unfit {
            field: "since".into(),
            problem: "is a position that the channel has not reached: leave it out",
        });
    }
    let stretch = Stretch {
        journal: room.as_str(),
        after: 0,
        through: revision,
        is_newest: true,
        // The next event shows whether there are more.
        limit: limit + 1,
        bytes: READ_BYTES,
        unexpired_at: Some(Time::now()),
    };
    if is_last {
        let newest = store.journal_stretch(Stretch {
            limit: 1,
            ..stretch
        });
        return Ok(only(&newest.await?, start, revision, positions));
    }
    let (before, is_forgotten) = match start {
        Start::Newest(before) => (before, false),
        Start::After(Sent::Elsewhere) => (None, true),
        Start::After(Sent::Here(place)) => {
            let since = place.offset;
            // The event at the position shows whether the client has received the same one.
            let with_known = Stretch {
                after: since.saturating_sub(1),
                is_newest: false,
                limit: limit + 2,
                bytes: 2 * READ_BYTES,
                ..stretch
            };
            let mut later = store.journal_stretch(with_known).await?;
            let is_known = later.first().is_some_and(|first| first.revision == since);
            let known = is_known.then(|| later.remove(0));
            let kept = later.len().min(limit).min(fitting(later.iter()));
            let is_behind = kept < later.len();
            let last = later.last().map_or(since, |last| last.revision);
            let is_same = known.as_ref().is_none_or(|known| place.is_of(known));
            let is_same = is_same && !later.iter().any(is_deletion);
            if is_same && is_gapless(&later, since) && (is_behind || last == revision) {
                let page = later.get(..kept).unwrap_or_default();
                return Ok(Attachment {
                    revision,
                    // A socket that has not all events yet does not follow.
                    joins: !is_behind,
                    read: ChannelEvents {
                        position: match page.last().or(known.as_ref()) {
                            Some(last) => positions.of_entry(last),
                            None => positions.of_place(place),
                        },
                        events: events_of(page, positions),
                        has_more: is_behind,
                        forgotten: false,
                        presence: None,
                    },
                });
            }
            (None, true)
        }
    };
    let through = before.map_or(revision, |before| before.saturating_sub(1).min(revision));
    let mut newest = store
        .journal_stretch(Stretch { through, ..stretch })
        .await?;
    let position = end_of(&newest, revision, positions);
    // Events before a deletion may not be removed yet.
    let deleted = newest.iter().rposition(is_deletion);
    newest.drain(..deleted.map_or(0, |at| at + 1));
    let kept = newest.len().min(limit);
    let kept = kept.min(fitting(newest.iter().rev()));
    let omitted = newest.len() - kept;
    Ok(Attachment {
        revision,
        joins: true,
        read: ChannelEvents {
            position,
            events: events_of(newest.get(omitted..).unwrap_or_default(), positions),
            has_more: omitted > 0,
            forgotten: is_forgotten,
            presence: None,
        },
    })
}

/// Returns the page of a channel whose events are not stored: what a client has missed is not known.
pub(in crate::service::channels) fn unstored(positions: &Positions, start: Start) -> ChannelEvents {
    ChannelEvents {
        position: positions.of_offset(0),
        events: Vec::new(),
        has_more: false,
        forgotten: matches!(start, Start::After(_)),
        presence: None,
    }
}

/// Returns the page of a channel that has only its newest event.
fn only(
    newest: &[Entry],
    start: Start,
    revision: u64,
    positions: &Positions,
) -> Attachment<ChannelEvents> {
    let is_wanted = |entry: &&Entry| match start {
        Start::Newest(before) => before.is_none_or(|before| entry.revision < before),
        Start::After(Sent::Here(place)) => !(entry.revision == place.offset && place.is_of(entry)),
        Start::After(Sent::Elsewhere) => true,
    };
    Attachment {
        revision,
        joins: true,
        read: ChannelEvents {
            position: end_of(newest, revision, positions),
            events: newest
                .iter()
                .filter(is_wanted)
                .filter_map(|entry| event_of(entry, positions))
                .collect(),
            has_more: false,
            forgotten: matches!(start, Start::After(_))
                && newest.iter().filter(is_wanted).any(is_deletion),
            presence: None,
        },
    }
}

/// Returns the position at a revision, which is that of the last entry if it is still stored.
fn end_of(entries: &[Entry], revision: u64, positions: &Positions) -> String {
    let last = entries.last().filter(|last| last.revision == revision);
    match last {
        Some(last) => positions.of_entry(last),
        None => positions.of_offset(revision),
    }
}

fn events_of(entries: &[Entry], positions: &Positions) -> Vec<ChannelEvent> {
    let events = entries.iter();
    events
        .filter_map(|entry| event_of(entry, positions))
        .collect()
}

/// Returns whether these are all events that directly follow a revision.
///
/// Not only the oldest can be missing: a shorter `history.age` ends newer events before older ones.
fn is_gapless(later: &[Entry], since: u64) -> bool {
    let is_next = |(entry, next): (&Entry, u64)| entry.revision == next;
    later.iter().zip(since + 1..).all(is_next)
}

/// Returns how many entries fit into one answer, at least one.
fn fitting<'a>(entries: impl Iterator<Item = &'a Entry>) -> usize {
    let mut bytes = 0;
    let fitting = entries.take_while(|entry| {
        let is_first = bytes == 0;
        bytes += entry.body.len() + ENTRY_BYTES;
        is_first || bytes <= PAGE_BYTES
    });
    fitting.count()
}

/// The maximum size of the events in one answer, in bytes. It stays far below the limit of a
/// client's queue.
const PAGE_BYTES: usize = 192 << 10;
/// The number of bytes after which no further event is read. No event is larger, so that the one
/// after the answer is always read.
const READ_BYTES: usize = 264 << 10;
/// The size of what an answer has of an event besides its body, in bytes, without a long id.
const ENTRY_BYTES: usize = 128;
