//! Reads and erases the data of a user in PostgreSQL.

use std::pin::pin;
use std::sync::Arc;

use deadpool_postgres::ClientWrapper;
use futures_util::TryStreamExt as _;
use tokio_postgres::Error;
use tokio_postgres::types::{ToSql, Type};

use super::{EraseAuthor, FoundRows, Section, SectionQuery};
use crate::store::change::annotations::postgres::show;
use crate::store::change::messages::postgres::{find, replace};
use crate::store::change::messages::streams;
use crate::store::change::{Actor, Change, ERASED_USER, Message};
use crate::store::postgres::group::LockedRows;
use crate::store::postgres::sql::{execute, record};
use crate::store::postgres::{Postgres, change, read};
use crate::store::{StoreError, Time};

impl Postgres {
    pub(in crate::store) async fn user_data(
        &self,
        section: &'static Section,
        query: SectionQuery,
        max_bytes: usize,
    ) -> Result<(Option<String>, FoundRows), StoreError> {
        read!(self, client => find_rows(client, section, query.clone(), max_bytes))
    }

    pub(in crate::store) async fn erase_user_data(
        &self,
        section: &'static Section,
        query: SectionQuery,
    ) -> Result<u64, StoreError> {
        change!(self, client => erase(client, section, &query))
    }
}

/// The parameters of a section's statements, each with its type. PostgreSQL cannot find out the
/// type of a parameter that a statement does not use.
struct Parameters<'a> {
    query: &'a SectionQuery,
}

impl<'a> Parameters<'a> {
    fn new(query: &'a SectionQuery) -> Self {
        Self { query }
    }

    fn typed(&self) -> [(&(dyn ToSql + Sync), Type); 6] {
        let query = self.query;
        [
            (&query.user, Type::TEXT),
            (&query.after, Type::TEXT),
            (&query.through, Type::TEXT),
            (&query.quoted, Type::TEXT),
            (&query.window, Type::INT8),
            (&query.field, Type::TEXT),
        ]
    }
}

/// Returns the last key of the next window, and the user's rows in it, up to the size of a page.
/// The key is `None` after the last window.
async fn find_rows(
    client: &ClientWrapper,
    section: &Section,
    mut query: SectionQuery,
    max_bytes: usize,
) -> Result<(Option<String>, FoundRows), Error> {
    let mut found = FoundRows::new(max_bytes);
    let parameters = Parameters::new(&query);
    let end = client
        .query_typed_opt(section.window, &parameters.typed())
        .await?;
    let end: Option<String> = match end {
        Some(row) => row.try_get(0)?,
        None => None,
    };
    let Some(end) = end else {
        return Ok((None, found));
    };
    query.through.clone_from(&end);
    // The columns are returned as text, whatever their types are, and the rows in the order of the
    // section's statement, because this one has no other.
    let sql = format!(
        "SELECT f.key::text, f.data::text, f.body::text
         FROM ({}) AS f (key, data, body)",
        section.find
    );
    let parameters = Parameters::new(&query);
    let rows = client.query_typed_raw(&sql, parameters.typed()).await?;
    let mut rows = pin!(rows);
    while let Some(row) = rows.try_next().await? {
        if !found.push(record(&row)?) {
            break;
        }
    }
    Ok((Some(end), found))
}

async fn erase(
    client: &ClientWrapper,
    section: &Section,
    query: &SectionQuery,
) -> Result<u64, Error> {
    let mut erased = 0;
    let parameters = Parameters::new(query);
    for sql in section.erase {
        erased += client.execute_typed(sql, &parameters.typed()).await?;
    }
    Ok(erased)
}

/// Erases the author of a message. Returns `Absent` unless its conversation is locked; a deleted
/// one is not.
pub(in crate::store) async fn erase_author(
    client: &ClientWrapper,
    locked: &LockedRows,
    erase: &EraseAuthor,
    now: Time,
) -> Result<Change<Arc<Message>>, Error> {
    let Some(message) = find(client, erase.message_id).await? else {
        return Ok(Change::Absent);
    };
    if !locked.rooms.contains_key(&message.conversation_id) {
        return Ok(Change::Absent);
    }
    let mut found = [Arc::new(message)];
    show(client, &mut found, None).await?;
    let [old] = found;
    let Some(new) = erase.erased(&old, now) else {
        return Ok(Change::Unchanged(old));
    };
    execute(client, &EraseAuthor::replace_author(&new)).await?;
    let new = Arc::new(new);
    // Nothing is emitted, because clients show no author of a deleted message.
    if old.deleted_at.is_some() {
        return Ok(Change::Unchanged(new));
    }
    let by = Actor {
        user_id: ERASED_USER.to_owned(),
        is_admin: true,
    };
    replace(client, &old, &new, &by, now).await?;
    if old.streaming {
        execute(client, &streams::delete(old.id)).await?;
    }
    Ok(Change::Done(new))
}
