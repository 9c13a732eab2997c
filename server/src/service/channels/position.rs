//! Positions in a channel: texts that have no meaning for clients.
//!
//! A position consists of the epoch, the offset, a tag of the channel and the time of the event.
//! The epoch identifies the database. The offset is the revision of an event in its journal.
//! Offsets have no gaps, so that a reader recognises events that are no longer stored. After a
//! backup was restored, another event may get the same offset, but at another time.

use sha2::{Digest as _, Sha256};

use crate::metrics::hex;
use crate::service::fault::ServiceError;
use crate::service::rules::bounds::REVISION_DIGITS;
use crate::store::{Entry, Time};

/// The positions of one channel.
#[derive(Clone, Debug)]
pub(super) struct Positions {
    epoch: String,
    tag: String,
}

/// A position that a client has sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// A position in this database.
    Here(Place),
    /// A position in another database, for example before it was replaced.
    Elsewhere,
}

/// The place of an event in its journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) offset: u64,
    /// The time of the event, or 0 if it is not known.
    time: u32,
}

impl Place {
    /// Returns the place of an event, whose time may be unknown.
    pub(super) fn new(offset: u64, time: Option<Time>) -> Self {
        let time = time.map_or(0, short);
        Self { offset, time }
    }

    /// Returns whether the entry at this offset is the event that the client has received.
    pub(super) fn is_of(self, entry: &Entry) -> bool {
        self.time == 0 || self.time == short(entry.created_at)
    }
}

/// Returns the low half of a time in milliseconds, which suffices to tell events apart.
fn short(time: Time) -> u32 {
    (time.milliseconds() & u64::from(u32::MAX)) as u32
}

impl Positions {
    pub(super) fn of(epoch: &str, channel: &str) -> Self {
        let hash = Sha256::digest(channel);
        Self {
            epoch: epoch.to_owned(),
            tag: hex(hash.get(..TAG_BYTES).unwrap_or(&hash)),
        }
    }

    /// Returns the position of an event.
    pub(super) fn of_entry(&self, entry: &Entry) -> String {
        self.of_place(Place::new(entry.revision, Some(entry.created_at)))
    }

    /// Returns the position of an event that is no longer stored.
    pub(super) fn of_offset(&self, offset: u64) -> String {
        self.of_place(Place::new(offset, None))
    }

    /// Returns a position that a client has sent.
    pub(super) fn of_place(&self, Place { offset, time }: Place) -> String {
        format!("{}.{offset}.{}.{time:08x}", self.epoch, self.tag)
    }

    /// Parses the position in a field.
    ///
    /// # Errors
    ///
    /// [`ServiceError::Invalid`] if it has another form, or is a position in another channel.
    pub(super) fn parse(&self, field: &'static str, text: &str) -> Result<Sent, ServiceError> {
        let parts = parts(text);
        let (epoch, place, tag) =
            parts.ok_or_else(|| ServiceError::invalid(field, "is not a position"))?;
        if tag != self.tag {
            return Err(ServiceError::invalid(
                field,
                "is a position in another channel",
            ));
        }
        Ok(if epoch == self.epoch {
            Sent::Here(place)
        } else {
            Sent::Elsewhere
        })
    }
}

fn parts(text: &str) -> Option<(&str, Place, &str)> {
    let (epoch, rest) = text.split_once('.')?;
    let (offset, rest) = rest.split_once('.')?;
    let (tag, time) = rest.split_once('.')?;
    let is_digit = |digit: u8| digit.is_ascii_digit();
    let is_hash = |digit: u8| is_digit(digit) || (b'a'..=b'f').contains(&digit);
    let are_hashes = [epoch, tag, time]
        .iter()
        .all(|text| text.len() == 2 * TAG_BYTES && text.bytes().all(is_hash));
    let is_offset = offset.len() <= REVISION_DIGITS && offset.bytes().all(is_digit);
    let offset = offset.parse().ok().filter(|_| is_offset && are_hashes)?;
    let time = u32::from_str_radix(time, 16).ok()?;
    Some((epoch, Place { offset, time }, tag))
}

/// The number of bytes of a tag. An epoch and a time have as many.
const TAG_BYTES: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn position_is_valid_only_in_its_channel_and_database() {
        let orders = Positions::of("5f1d03ab", "orders:7:42");
        let (offset, time) = (7, 0x19b_0b0e0);
        let place = Place { offset, time };
        let text = orders.of_place(place);
        assert_eq!(orders.parse("since", &text), Ok(Sent::Here(place)));
        let replaced = Positions::of("00000000", "orders:7:42");
        assert_eq!(replaced.parse("since", &text), Ok(Sent::Elsewhere));
        let other = Positions::of("5f1d03ab", "orders:7:43");
        let error = other.parse("since", &text).unwrap_err();
        assert_eq!(error.to_string(), "since is a position in another channel");
        for wrong in [
            "",
            "7",
            "5f1d03ab.7",
            "5f1d03ab.7.9e107d9d",
            &format!("{text}.1"),
            &text.replace(".7.", ".-7."),
            &text.replace(".7.", ".+7."),
            &text.replace(".7.", ".."),
            &text.replace(".7.", &format!(".{}.", "9".repeat(19))),
            &text.to_uppercase(),
            &"5f1d03ab.".repeat(100_000),
        ] {
            let error = orders.parse("since", wrong).unwrap_err();
            assert_eq!(error.to_string(), "since is not a position");
        }
    }
}
