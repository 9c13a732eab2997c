//! The data of one user, for its export and its erasure.
//!
//! [`sections`] lists the tables with data of users. Both backends read a section in windows, so
//! that neither a large table nor a user with many rows takes a long query or much memory. Rows
//! that clients must learn of are erased in the lane of their conversation, all others by the
//! statements of their section.

#[cfg(feature = "postgres")]
pub(in crate::store) mod postgres;
mod sections;
#[cfg(feature = "sqlite")]
pub(in crate::store) mod sqlite;

use std::sync::Arc;

use serde_json::value::RawValue;
use uuid::Uuid;

use sections::SECTIONS;
pub(in crate::store) use sections::Section;

use super::messages::list;
use super::{Change, Message};
use crate::store::statement::{Pair, Statement, record, values};
use crate::store::write::Write;
use crate::store::{Backend, Origin, Store, StoreError, Time};

/// The author of a message whose author was erased. No token may name this user.
pub const ERASED_USER: &str = "erased";
/// The name of that author.
pub const ERASED_NAME: &str = "Erased user";

/// Maximum rows of a table that one query visits.
const WINDOW: usize = 2000;

/// A place in the data of a user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "callers read and construct it")]
pub struct UserDataPlace {
    /// The index of the section.
    pub section: usize,
    /// The last key of the section that was visited; empty at its beginning.
    pub after: String,
}

impl UserDataPlace {
    /// Returns whether the place exists and its key has the form of the section's keys.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        let Some(section) = SECTIONS.get(self.section) else {
            return false;
        };
        self.after.is_empty() || section.has_key(&self.after)
    }
}

/// A row with data of a user.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "a row, callers destructure it")]
pub struct UserRecord {
    /// What the row is, such as `message`.
    pub kind: &'static str,
    /// Its key in the section.
    pub key: String,
    /// The columns as a JSON object.
    pub data: Box<RawValue>,
    /// The JSON that is stored with the row: the metadata of a message, the entry of a journal.
    pub body: Option<Box<RawValue>>,
}

/// A part of the data of a user.
#[derive(Debug)]
#[expect(
    clippy::exhaustive_structs,
    reason = "a result, callers destructure it"
)]
pub struct UserDataPage {
    /// The records, in the order of their keys.
    pub records: Vec<UserRecord>,
    /// The place up to which the section was visited.
    pub through: UserDataPlace,
    /// Where the next page begins, or `None` at the end of the data.
    pub next: Option<UserDataPlace>,
}

/// A request to erase the author of a message.
#[derive(Clone, Debug)]
pub struct EraseAuthor {
    /// The message.
    pub message_id: Uuid,
    /// The author who is erased. A message of another author is not changed.
    pub user_id: String,
    /// Whether the text is removed as well, as in a deletion.
    pub removes_text: bool,
}

impl EraseAuthor {
    /// Returns the row without its author, or `None` if it has another author.
    pub(in crate::store) fn erased(&self, old: &Message, now: Time) -> Option<Message> {
        if old.user_id != self.user_id {
            return None;
        }
        let mut new = if self.removes_text && old.deleted_at.is_none() {
            old.deleted(now)
        } else {
            old.clone()
        };
        // A text that its author was writing ends where it is.
        new.interrupted |= new.streaming;
        new.streaming = false;
        new.user_id = ERASED_USER.to_owned();
        new.user_name = ERASED_NAME.to_owned();
        if self.removes_text {
            new.mentions = Vec::new();
        } else if old.deleted_at.is_none() {
            // Clients and other servers recognize a changed message by its version.
            new.version = old.version.saturating_add(1);
        }
        Some(new)
    }

    /// Returns the statement that replaces the author of a message, and those whom it mentions.
    pub(in crate::store) fn replace_author(new: &Message) -> Statement {
        let mentions = (!new.mentions.is_empty()).then(|| list(&new.mentions));
        Statement::new(
            "UPDATE messages SET user_id = $2, user_name = $3, mentions = $4, client_message_id = NULL
             WHERE id = $1",
            values![new.id, &*new.user_id, &*new.user_name, mentions],
        )
    }
}

/// The values that the statements of a section refer to.
#[derive(Clone, Debug)]
pub(in crate::store) struct SectionQuery {
    user: String,
    /// The user's id as a JSON string.
    quoted: String,
    /// The user's id as the field `userId` of JSON.
    field: String,
    after: String,
    through: String,
    window: i64,
}

impl SectionQuery {
    fn new(user: &str, section: &Section, after: &str) -> Self {
        let quoted = serde_json::to_string(user).expect("a text is JSON");
        let after = section.start(after);
        Self {
            user: user.to_owned(),
            field: format!("\"userId\":{quoted}"),
            quoted,
            after: after.to_owned(),
            through: after.to_owned(),
            window: i64::try_from(WINDOW).unwrap_or(i64::MAX),
        }
    }
}

/// A row of a user. `data` has its other columns.
#[derive(Debug)]
pub(in crate::store) struct FoundRow {
    key: String,
    data: String,
    body: Option<String>,
}

record! { FoundRow => key, data, body }

/// Collects rows until a page is full. Rows with the same key are never separated.
#[derive(Debug)]
pub(in crate::store) struct FoundRows {
    rows: Vec<FoundRow>,
    bytes: usize,
    max_bytes: usize,
    is_cut: bool,
}

impl FoundRows {
    fn new(max_bytes: usize) -> Self {
        Self {
            rows: Vec::new(),
            bytes: 0,
            max_bytes,
            is_cut: false,
        }
    }

    /// Adds a row. Returns `false` if the page is full, and the row is not added.
    fn push(&mut self, row: FoundRow) -> bool {
        let is_full = self.bytes >= self.max_bytes || self.rows.len() >= MAX_RECORDS;
        if is_full && self.rows.last().is_some_and(|last| last.key != row.key) {
            self.is_cut = true;
            return false;
        }
        self.bytes += row.key.len() + row.data.len() + row.body.as_ref().map_or(0, String::len);
        self.rows.push(row);
        true
    }
}

/// Maximum deliveries that are read for one text.
const MAX_DELIVERIES: i64 = 100;
/// Maximum records of a page.
const MAX_RECORDS: usize = 500;

impl Store {
    /// Returns the data of a user from a place on: the records of one window of one section, of
    /// about `max_bytes`.
    ///
    /// A page may be empty although more follow.
    ///
    /// # Errors
    ///
    /// If it could not be read.
    pub async fn user_data(
        &self,
        user: &str,
        place: &UserDataPlace,
        max_bytes: usize,
    ) -> Result<UserDataPage, StoreError> {
        let Some(section) = SECTIONS.get(place.section) else {
            return Ok(UserDataPage {
                records: Vec::new(),
                through: place.clone(),
                next: None,
            });
        };
        let query = SectionQuery::new(user, section, &place.after);
        let after = section.start(&place.after).to_owned();
        let (end, found): (Option<String>, FoundRows) = each!(self, backend => {
            self.with_answer_timeout(backend.user_data(section, query, max_bytes)).await?
        });
        let end = end.filter(|end| *end != after);
        let is_last_section = place.section + 1 >= SECTIONS.len();
        let cut = found.rows.last().filter(|_| found.is_cut);
        let through = UserDataPlace {
            section: place.section,
            after: cut.map_or_else(|| end.clone().unwrap_or(after), |last| last.key.clone()),
        };
        let next = match (end, is_last_section) {
            (Some(_), _) => Some(through.clone()),
            (None, false) => Some(UserDataPlace {
                section: place.section + 1,
                after: String::new(),
            }),
            (None, true) => None,
        };
        let record = |FoundRow { key, data, body }| UserRecord {
            kind: section.kind,
            key,
            data: json(&data),
            body: body.as_deref().map(json),
        };
        Ok(UserDataPage {
            records: found.rows.into_iter().map(record).collect(),
            through,
            next,
        })
    }

    /// Erases the rows of a user between two places of one section, except those that are erased
    /// in the lanes of their conversations. Returns how many.
    ///
    /// # Errors
    ///
    /// If that could not be stored. The call may be repeated.
    pub async fn erase_user_data(
        &self,
        user: &str,
        place: &UserDataPlace,
        through: &UserDataPlace,
    ) -> Result<u64, StoreError> {
        let Some(section) = SECTIONS.get(place.section) else {
            return Ok(0);
        };
        let mut query = SectionQuery::new(user, section, &place.after);
        query.through.clone_from(&through.after);
        each!(self, backend => {
            self.with_answer_timeout(backend.erase_user_data(section, query)).await
        })
    }

    /// Replaces the body of a webhook delivery that was stored before `before`, or removes it.
    /// Returns how many were changed.
    ///
    /// # Errors
    ///
    /// If that could not be stored. The call may be repeated.
    pub async fn edit_delivery(
        &self,
        id: Uuid,
        body: Option<String>,
        before: Time,
    ) -> Result<u64, StoreError> {
        let edit = match body {
            Some(body) => Statement::new(
                "UPDATE webhook_deliveries SET body = $3 WHERE id = $1 AND created_at < $2",
                values![id, before, body],
            ),
            None => Statement::new(
                "DELETE FROM webhook_deliveries WHERE id = $1 AND created_at < $2",
                values![id, before],
            ),
        };
        self.with_answer_timeout(self.execute(edit)).await
    }

    /// Returns some of the waiting webhook deliveries whose body contains a text, with their
    /// bodies.
    ///
    /// # Errors
    ///
    /// If they could not be read.
    pub async fn deliveries_with(&self, text: String) -> Result<Vec<(Uuid, String)>, StoreError> {
        let select = Statement::new(
            "SELECT id AS key, body AS value FROM webhook_deliveries
             WHERE strpos(body, $1) > 0 LIMIT $2",
            values![text, MAX_DELIVERIES],
        )
        .for_sqlite(
            "SELECT id AS key, body AS value FROM webhook_deliveries
             WHERE instr(body, $1) > 0 LIMIT $2",
        );
        let found = self.with_answer_timeout(self.rows(select)).await?;
        Ok(found.into_iter().map(|Pair(id, body)| (id, body)).collect())
    }

    /// Removes the notifications of a mention from the journals of these users. Returns how many.
    ///
    /// # Errors
    ///
    /// If that could not be stored. The call may be repeated.
    pub async fn erase_mentions(
        &self,
        message: Uuid,
        users: Vec<String>,
    ) -> Result<u64, StoreError> {
        let mut journals: Vec<String> = users
            .into_iter()
            .map(|user| format!("notifications:{user}"))
            .collect();
        // Other transactions use the same order, so that none deadlock.
        journals.sort_unstable();
        let key = format!("mention:{message}");
        let delete = Statement::new(
            "DELETE FROM journal_entries WHERE (journal, revision) IN (
                 SELECT journal, revision FROM journal_entries
                 WHERE journal = ANY($1) AND key = $2 ORDER BY journal, revision FOR UPDATE)",
            values![journals, key],
        )
        .for_sqlite(
            "DELETE FROM journal_entries
             WHERE journal IN (SELECT value FROM json_each($1)) AND key = $2",
        );
        self.with_answer_timeout(self.execute(delete)).await
    }

    /// Erases the author of a message, optionally with its text, and waits until that is emitted.
    ///
    /// The row stays, so that `seq` has no gap. Former texts stay as versions until the section of
    /// versions is erased.
    ///
    /// # Errors
    ///
    /// If it could not be stored.
    pub async fn erase_author(
        &self,
        erase: EraseAuthor,
        origin: Origin,
    ) -> Result<Change<Arc<Message>>, StoreError> {
        let Some(conversation_id) = self.conversation_of(erase.message_id).await? else {
            return Ok(Change::Absent);
        };
        self.submit(erase, conversation_id, origin, Write::Erase)
            .await
    }
}

/// Returns a text as JSON. A text that is no JSON, which only another program can have written,
/// becomes a JSON string.
fn json(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).unwrap_or_else(|_| {
        let quoted = serde_json::to_string(text).expect("a text is JSON");
        RawValue::from_string(quoted).expect("a quoted text is JSON")
    })
}
