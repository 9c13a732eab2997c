//! What is written to a journal: appended, amended and replaced entries, and the outcome.

#[cfg(feature = "sqlite")]
use serde::Deserialize;

use super::Entry;
use crate::store::Time;

/// An entry to append.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "callers construct it")]
pub struct Append {
    /// The name of the journal.
    pub journal: String,
    /// The key of the entry's subject.
    pub key: String,
    /// The content, as JSON.
    pub body: String,
    /// The category within the journal.
    pub category: Option<String>,
    /// Whether another entry of its key may follow.
    pub is_open: bool,
    /// What happens to the open entry of its key.
    pub if_open: IfOpen,
    /// Whether an open entry of its key must exist.
    pub needs_open: bool,
    /// The time, by this server's clock.
    pub created_at: Time,
    /// When it expires.
    pub expires_at: Option<Time>,
    /// The maximum number of open entries, checked if this is an open entry of a new key.
    pub most_open: u32,
    /// Which open entries count towards `most_open`, and what happens if there are too many.
    pub quota: Quota,
}

/// Which open entries of a journal count before an open entry of a new key is appended. Expired
/// entries never count.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_enums, reason = "stores must know all of them")]
pub enum Quota {
    /// All entries count. If there are too many, the result is [`Appended::Full`].
    All,
    /// All entries count, and those of the entry's category also towards this share. If there are
    /// too many of either, the result is [`Appended::Full`]. `Store::append_all` refuses it.
    ///
    /// The appends that run concurrently on PostgreSQL may exceed the share, but not `most_open`.
    Share(u32),
    /// Entries whose keys do not begin with this text count. If there are too many, the result is
    /// [`Appended::Full`].
    Without(&'static str),
    /// Entries whose keys begin with `prefix` count. If there are too many, the oldest are closed
    /// with `body`, and the entry is always stored. `most_open` must not be zero.
    Dropping {
        /// The prefix of the keys that count.
        prefix: &'static str,
        /// The body of the entries that close the oldest.
        body: String,
        /// When the entries that close the oldest expire.
        expires_at: Time,
    },
}

impl Append {
    /// Returns a closed entry, created now, that replaces the open entry of its key. It has no
    /// category and does not expire.
    #[must_use]
    pub fn new(journal: String, key: String, body: String) -> Self {
        Self {
            journal,
            key,
            body,
            category: None,
            is_open: false,
            if_open: IfOpen::Remove,
            needs_open: false,
            created_at: Time::now(),
            expires_at: None,
            most_open: 0,
            quota: Quota::All,
        }
    }

    /// Returns whether the existing open entry of the key is newer than this one and therefore
    /// stays. The SQL function `roomcast_append` applies the same rule.
    #[cfg(feature = "sqlite")]
    pub(in crate::store) fn is_outdated(&self, known: &Entry) -> bool {
        #[derive(Deserialize)]
        struct Dated {
            timestamp: Time,
        }
        let time_of = |body: &str| {
            serde_json::from_str(body)
                .ok()
                .map(|Dated { timestamp }| timestamp)
        };
        match self.if_open {
            IfOpen::RemoveOlder | IfOpen::KeepOlder => {
                let new = time_of(&self.body);
                new.is_some_and(|new| time_of(&known.body).is_some_and(|known| known > new))
            }
            IfOpen::Remove | IfOpen::Keep | IfOpen::Refuse => false,
        }
    }

    /// Returns the entry that closes the entry `key` of the same journal to make room for this one.
    #[cfg(feature = "sqlite")]
    pub(in crate::store) fn closing(&self, key: String, body: String, expires_at: Time) -> Self {
        Self {
            created_at: self.created_at,
            expires_at: Some(expires_at),
            ..Self::new(self.journal.clone(), key, body)
        }
    }
}

/// An entry that replaces the current entry of its key, even a closed one.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "callers construct it")]
pub struct Amend {
    /// The name of the journal.
    pub journal: String,
    /// The key of the entry's subject.
    pub key: String,
    /// The revision of the entry that it replaces. If another entry is current by then, nothing is
    /// stored.
    pub replaces: u64,
    /// The content, as JSON. A body that begins with [`WITHDRAWAL`] withdraws the key.
    pub body: String,
    /// Whether another entry of its key may follow.
    pub is_open: bool,
    /// The time, by this server's clock.
    pub created_at: Time,
    /// When it expires.
    pub expires_at: Option<Time>,
}

/// The beginning of the body of an entry that withdraws its key.
///
/// Views exclude such entries, so that they displace no other entry. Servers that catch up read
/// them.
pub const WITHDRAWAL: &str = r#"{"withdrawn":"#;

/// Open entries of one journal that replace the open entries of their keys.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "callers construct it")]
pub struct Replace {
    /// The name of the journal.
    pub journal: String,
    /// The keys and bodies. If a key occurs twice, the last body counts.
    pub entries: Vec<(String, String)>,
    /// The time, by this server's clock.
    pub created_at: Time,
    /// The maximum number of open entries, checked if a key is new.
    pub most_open: u32,
}

impl Replace {
    /// Returns the entries one by one.
    #[cfg(feature = "sqlite")]
    pub(in crate::store) fn each(&self) -> impl Iterator<Item = Append> {
        self.entries.iter().map(|(key, body)| Append {
            is_open: true,
            created_at: self.created_at,
            most_open: self.most_open,
            ..Append::new(self.journal.clone(), key.clone(), body.clone())
        })
    }
}

/// What happens to an open entry when another entry of its key is appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "stores must know all of them")]
pub enum IfOpen {
    /// The open entry is removed.
    Remove,
    /// The open entry stays in the journal as history.
    Keep,
    /// The open entry stays current, and nothing is appended.
    Refuse,
    /// The open entry is removed, unless the `timestamp` in its body is later than that of the new
    /// entry. Then nothing is appended.
    RemoveOlder,
    /// The open entry stays in the journal as history, unless the `timestamp` in its body is later
    /// than that of the new entry. Then nothing is appended.
    KeepOlder,
}

impl IfOpen {
    /// Returns whether a replaced open entry stays in the journal as history.
    #[cfg(feature = "sqlite")]
    pub(in crate::store) fn keeps_replaced(self) -> bool {
        matches!(self, Self::Keep | Self::KeepOlder)
    }
}

/// The outcome of an [`Append`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "callers must handle every variant")]
pub enum Appended {
    /// The entry is stored.
    Stored(Entry),
    /// Nothing is stored: the contained entry of the key is closed, stays by [`IfOpen::Refuse`], or
    /// is newer.
    There(Entry),
    /// Nothing is stored: no open entry of the key exists, but one is required.
    Absent,
    /// Nothing is stored: the maximum number of open entries is reached.
    Full,
}
