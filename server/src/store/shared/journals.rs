//! Journals: what services publish, one list for each matter, such as the trades of one user.
//!
//! Entries of a journal are numbered by revision in the order of their commits, whichever server appends them. Of all entries of
//! one key the last is current: an open one may be followed by another, a closed one is final. So whoever publishes something
//! final twice stores it once, and of two who close the same entry one is first.

use serde::Deserialize;

use crate::store::{Backend, Store, StoreError, Time};

/// An entry of a journal.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_structs,
    reason = "a row, taken apart by who reads it"
)]
pub struct Entry {
    /// Its place in the journal: larger than that of all entries before it.
    pub revision: u64,
    /// What it is about.
    pub key: String,
    /// JSON.
    pub body: String,
    /// The part of the journal that it is in, if it has parts.
    pub category: Option<String>,
    /// Whether another one of its key may follow.
    pub is_open: bool,
    /// When it was appended.
    pub created_at: Time,
    /// When it is forgotten, if that is said.
    pub expires_at: Option<Time>,
}

/// An entry that is to be appended.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "made by who stores it")]
pub struct Append {
    /// The name of the journal.
    pub journal: String,
    /// What it is about.
    pub key: String,
    /// JSON.
    pub body: String,
    /// The part of the journal that it is in.
    pub category: Option<String>,
    /// Whether another one of its key may follow.
    pub is_open: bool,
    /// What becomes of an open entry of its key.
    pub if_open: IfOpen,
    /// Whether there has to be an open entry of its key.
    pub needs_open: bool,
    /// The time of this server.
    pub created_at: Time,
    /// When it is forgotten.
    pub expires_at: Option<Time>,
    /// Open entries that there may be, if this is an open one of a new key.
    pub most_open: u32,
    /// Which open entries count towards `most_open`, and what happens if there are too many.
    pub quota: Quota,
}

/// Which open entries of a journal count before an open one of a new key is appended. Entries that have expired never count.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_enums, reason = "stores must know all of them")]
pub enum Quota {
    /// All count. If there are too many, the answer is [`Appended::Full`].
    All,
    /// Those whose keys do not begin with this text count. If there are too many, the answer is [`Appended::Full`].
    Without(&'static str),
    /// Those whose keys begin with this text count. If there are too many, the oldest are closed with this body, and the
    /// entry is always stored. `most_open` must not be zero.
    Dropping {
        /// How the keys of the counted entries begin.
        prefix: &'static str,
        /// The body of the entries that close the oldest.
        body: String,
        /// When the entries that close the oldest expire.
        expires_at: Time,
    },
}

impl Append {
    /// Returns whether an open entry of the key stays in place of this one, since this one is older. PostgreSQL decides the
    /// same in `roomcast_append`.
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

    /// The entry that closes another one of the same journal to make room for this one.
    pub(in crate::store) fn closing(&self, key: String, body: String, expires_at: Time) -> Self {
        Self {
            journal: self.journal.clone(),
            key,
            body,
            category: None,
            is_open: false,
            if_open: IfOpen::Remove,
            needs_open: false,
            created_at: self.created_at,
            expires_at: Some(expires_at),
            most_open: 0,
            quota: Quota::All,
        }
    }
}

/// An entry that takes the place of the current entry of its key, also if that is closed.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "made by who stores it")]
pub struct Amend {
    /// The name of the journal.
    pub journal: String,
    /// What it is about.
    pub key: String,
    /// The revision of the entry that it replaces. If another entry is current by then, nothing is stored.
    pub replaces: u64,
    /// JSON. A body that begins with [`WITHDRAWAL`] withdraws the key.
    pub body: String,
    /// Whether another one of its key may follow.
    pub is_open: bool,
    /// The time of this server.
    pub created_at: Time,
    /// When it is forgotten.
    pub expires_at: Option<Time>,
}

/// How the body of an entry begins that withdraws its key. No view has such an entry, so that it takes the place of no other;
/// servers that catch up read it.
pub const WITHDRAWAL: &str = r#"{"withdrawn":"#;

/// Open entries of one journal that take the places of those of their keys.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "made by who stores it")]
pub struct Replace {
    /// The name of the journal.
    pub journal: String,
    /// Their keys and bodies; of one key the last counts.
    pub entries: Vec<(String, String)>,
    /// The time of this server.
    pub created_at: Time,
    /// Open entries that there may be, where a key is new.
    pub most_open: u32,
}

impl Replace {
    /// The entries one by one.
    pub(in crate::store) fn each(&self) -> impl Iterator<Item = Append> {
        self.entries.iter().map(|(key, body)| Append {
            journal: self.journal.clone(),
            key: key.clone(),
            body: body.clone(),
            category: None,
            is_open: true,
            if_open: IfOpen::Remove,
            needs_open: false,
            created_at: self.created_at,
            expires_at: None,
            most_open: self.most_open,
            quota: Quota::All,
        })
    }
}

/// What becomes of an open entry when another one of its key is appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "stores must know all of them")]
pub enum IfOpen {
    /// The open entry is removed.
    Remove,
    /// The open entry stays in the journal as what was before.
    Keep,
    /// The open entry stays what it is, and nothing is appended.
    Refuse,
    /// The open entry is removed, unless the `timestamp` in its body is later than that of the new one: then nothing is
    /// appended.
    RemoveOlder,
    /// The open entry stays in the journal as what was before, unless the `timestamp` in its body is later than that of the
    /// new one: then nothing is appended.
    KeepOlder,
}

impl IfOpen {
    /// Returns whether an open entry that gives way stays in the journal as what was before.
    pub(in crate::store) fn keeps_replaced(self) -> bool {
        matches!(self, Self::Keep | Self::KeepOlder)
    }
}

/// What came of an [`Append`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "whoever appends must say what each means"
)]
pub enum Appended {
    /// The entry is stored.
    Stored(Entry),
    /// Nothing is stored: this entry of its key is closed, stays by [`IfOpen::Refuse`], or is newer.
    There(Entry),
    /// There is no open entry of its key, and there had to be one.
    Absent,
    /// There are as many open entries as there may be.
    Full,
}

/// Which current entries of a journal are read.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "made by who reads")]
pub struct Current<'a> {
    /// The name of the journal.
    pub journal: &'a str,
    /// Only those of this category.
    pub category: Option<&'a str>,
    /// At most so many of the open ones, the newest.
    pub open: usize,
    /// And at most so many of all, the newest.
    pub newest: usize,
    /// Whether the newest are those that are closed, instead of all.
    pub is_closed: bool,
    /// Only those whose revision is smaller than this.
    pub before: Option<u64>,
    /// Whether entries that withdraw their keys are among them. By default they are left out.
    pub with_withdrawn: bool,
    /// What expires at this time or before is left out.
    pub now: Time,
}

impl Current<'_> {
    /// Returns with what the bodies begin that are left out.
    pub(in crate::store) const fn left_out(&self) -> &'static str {
        if self.with_withdrawn {
            NO_BODY
        } else {
            WITHDRAWAL
        }
    }
}

/// No body begins with it, because bodies are JSON.
const NO_BODY: &str = "\u{1}";

/// A journal at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_structs,
    reason = "an answer, taken apart by who asked"
)]
pub struct JournalView {
    /// The revision of its last entry; 0 if there was none.
    pub revision: u64,
    /// In the order of their revisions.
    pub entries: Vec<Entry>,
}

/// What is removed from all journals.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "made by who removes")]
pub struct JournalSweep {
    /// What expires at this time or before.
    pub now: Time,
    /// What was replaced and is older than this.
    pub replaced_before: Time,
    /// What is closed, has no end of its own, and is older than this.
    pub closed_before: Time,
    /// Entries that are removed at once, of each of the three kinds.
    pub limit: usize,
}

impl Store {
    /// Appends an entry to a journal, if the open and closed entries there allow it.
    ///
    /// # Errors
    ///
    /// If it could not be stored; then it may be all the same if the error says that nobody knows.
    pub async fn append(&self, append: Append) -> Result<Appended, StoreError> {
        let appending =
            async { each!(self, backend => self.patiently(backend.append(append)).await) };
        // Other servers are woken behind the commit; they would find it by the clock as well.
        self.feeding(appending).await
    }

    /// Appends entries to journals, all of them in one transaction, and returns the outcome of each in their order. The
    /// entries must be in the order of the names of their journals: transactions that lock several journals lock them in
    /// one order, so that none waits for another in a circle.
    ///
    /// # Errors
    ///
    /// If they could not be stored; then they may be all the same if the error says that nobody knows.
    pub async fn append_all(&self, appends: Vec<Append>) -> Result<Vec<Appended>, StoreError> {
        debug_assert!(appends.is_sorted_by(|a, b| a.journal <= b.journal));
        let appending =
            async { each!(self, backend => self.patiently(backend.append_all(appends)).await) };
        self.feeding(appending).await
    }

    /// Replaces the current entry of a key, also a closed one, if it is still the entry that the caller knows. Returns the
    /// new entry, which has the category of the replaced one, or `None` if another entry is current.
    ///
    /// # Errors
    ///
    /// If it could not be stored; then it may be all the same if the error says that nobody knows.
    pub async fn amend(&self, amend: Amend) -> Result<Option<Entry>, StoreError> {
        let amending = async { each!(self, backend => self.patiently(backend.amend(amend)).await) };
        self.feeding(amending).await
    }

    /// Replaces open entries of one journal, all of them in one transaction. Says the revision of each, or `None` where there are
    /// too many open ones or a closed one is there. Servers hear of them together if the journal is `prices`, and not at
    /// all if it is another one that several servers follow.
    ///
    /// # Errors
    ///
    /// If they could not be stored; then they may be all the same if the error says that nobody knows. Doing it again is harmless.
    pub async fn replace(&self, replace: Replace) -> Result<Vec<Option<u64>>, StoreError> {
        let replacing =
            async { each!(self, backend => self.patiently(backend.replace(replace)).await) };
        self.feeding(replacing).await
    }

    /// Current entries of a journal, with its revision at that moment.
    ///
    /// # Errors
    ///
    /// If they could not be read.
    pub async fn journal(&self, current: Current<'_>) -> Result<JournalView, StoreError> {
        each!(self, backend => self.patiently(backend.journal(current)).await)
    }

    /// At most `limit` entries of a journal behind a revision and not behind another one, in their order; those that were
    /// replaced as well, if they are kept.
    ///
    /// # Errors
    ///
    /// If they could not be read.
    pub async fn journal_after(
        &self,
        journal: &str,
        after: u64,
        through: u64,
        limit: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        each!(self, backend => self.patiently(backend.journal_after(journal, after, through, limit)).await)
    }

    /// How many entries of a journal are open and have not ended at this time, with the revision of that moment.
    ///
    /// # Errors
    ///
    /// If they could not be counted.
    pub async fn count_open(&self, journal: &str, now: Time) -> Result<(u64, u64), StoreError> {
        each!(self, backend => self.patiently(backend.count_open(journal, now)).await)
    }

    /// The current entry of a key.
    ///
    /// # Errors
    ///
    /// If it could not be read.
    pub async fn journal_entry(
        &self,
        journal: &str,
        key: &str,
    ) -> Result<Option<Entry>, StoreError> {
        each!(self, backend => self.patiently(backend.journal_entry(journal, key)).await)
    }

    /// Removes closed entries of a journal whose revision is smaller than this.
    ///
    /// # Errors
    ///
    /// If that could not be stored.
    pub async fn trim_journal(&self, journal: &str, before: u64) -> Result<(), StoreError> {
        each!(self, backend => self.patiently(backend.trim_journal(journal, before)).await)
    }

    /// Removes open entries of a journal that were appended before `before`, and open withdrawals that were appended before
    /// `withdrawn_before`. Returns how many. No server is notified.
    ///
    /// # Errors
    ///
    /// If that could not be stored.
    pub async fn expire_journal(
        &self,
        journal: &str,
        before: Time,
        withdrawn_before: Time,
    ) -> Result<u64, StoreError> {
        each!(self, backend => {
            self.patiently(backend.expire_journal(journal, before, withdrawn_before)).await
        })
    }

    /// Removes what has ended, was replaced or is old. Says how many.
    ///
    /// # Errors
    ///
    /// If that could not be stored.
    pub async fn sweep_journals(&self, sweep: JournalSweep) -> Result<u64, StoreError> {
        each!(self, backend => self.patiently(backend.sweep_journals(sweep)).await)
    }
}
