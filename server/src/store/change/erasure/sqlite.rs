//! Reads and erases the data of a user in SQLite.

use rusqlite::{Connection, Statement};

use super::{EraseAuthor, FoundRows, Section, SectionQuery};
use crate::store::change::annotations::sqlite::shown;
use crate::store::change::members::sqlite::last_seq;
use crate::store::change::messages::sqlite::{find, replace};
use crate::store::change::messages::streams;
use crate::store::change::{Actor, Change, ERASED_USER, Message};
use crate::store::sqlite::Sqlite;
use crate::store::sqlite::sql::{execute, record};
use crate::store::{StoreError, Time};
use std::sync::Arc;

impl Sqlite {
    pub(in crate::store) async fn user_data(
        &self,
        section: &'static Section,
        query: SectionQuery,
        max_bytes: usize,
    ) -> Result<(Option<String>, FoundRows), StoreError> {
        self.read(move |connection| read(connection, section, query, max_bytes))
            .await
    }

    pub(in crate::store) async fn erase_user_data(
        &self,
        section: &'static Section,
        query: SectionQuery,
    ) -> Result<u64, StoreError> {
        self.write(move |connection| {
            let mut erased = 0;
            for sql in section.erase.iter().filter(|_| !section.is_shared_only) {
                let mut statement = connection.prepare_cached(&translated(sql))?;
                bind(&mut statement, &query)?;
                erased += statement.raw_execute()? as u64;
            }
            Ok(erased)
        })
        .await
    }
}

/// Returns the last key of a window, and the rows in it.
fn read(
    connection: &Connection,
    section: &Section,
    mut query: SectionQuery,
    max_bytes: usize,
) -> rusqlite::Result<(Option<String>, FoundRows)> {
    let mut found = FoundRows::new(max_bytes);
    if section.is_shared_only {
        return Ok((None, found));
    }
    let connection = &*connection.unchecked_transaction()?;
    let mut window = connection.prepare_cached(&translated(section.window))?;
    bind(&mut window, &query)?;
    let mut rows = window.raw_query();
    let end: Option<String> = match rows.next()? {
        Some(row) => row.get(0)?,
        None => None,
    };
    drop(rows);
    let Some(end) = end else {
        return Ok((None, found));
    };
    query.through.clone_from(&end);
    // The rows come in the order of the section's statement, because this one has no other.
    let sql = format!(
        "WITH f (key, data, body) AS ({}) SELECT key, data, body FROM f",
        translated(section.find)
    );
    let mut statement = connection.prepare_cached(&sql)?;
    bind(&mut statement, &query)?;
    let mut rows = statement.raw_query();
    while let Some(row) = rows.next()? {
        if !found.push(record(row)?) {
            break;
        }
    }
    Ok((Some(end), found))
}

/// Translates a statement that is written for PostgreSQL.
fn translated(sql: &str) -> String {
    sql.replace("::uuid", "")
        .replace("::text", "")
        .replace("::timestamptz", "")
        .replace(" COLLATE \"C\"", "")
        .replace("json_build_object(", "json_object(")
        .replace("strpos(", "instr(")
}

/// Binds the parameters that a statement refers to.
fn bind(statement: &mut Statement<'_>, query: &SectionQuery) -> rusqlite::Result<()> {
    let texts = [
        ("$1", &query.user),
        ("$2", &query.after),
        ("$3", &query.through),
        ("$4", &query.quoted),
        ("$6", &query.field),
    ];
    for (name, value) in texts {
        if let Some(index) = statement.parameter_index(name)? {
            statement.raw_bind_parameter(index, value)?;
        }
    }
    if let Some(index) = statement.parameter_index("$5")? {
        statement.raw_bind_parameter(index, query.window)?;
    }
    Ok(())
}

pub(in crate::store) fn erase_author(
    connection: &Connection,
    erase: &EraseAuthor,
    now: Time,
) -> rusqlite::Result<Change<Arc<Message>>> {
    let Some(message) = find(connection, erase.message_id)? else {
        return Ok(Change::Absent);
    };
    let old = shown(connection, message)?;
    if last_seq(connection, old.conversation_id, None)?.is_none() {
        return Ok(Change::Absent);
    }
    let Some(new) = erase.erased(&old, now) else {
        return Ok(Change::Unchanged(Arc::new(old)));
    };
    let was_deleted = old.deleted_at.is_some();
    if !was_deleted {
        let by = Actor {
            user_id: ERASED_USER.to_owned(),
            is_admin: true,
        };
        replace(connection, &old, &new, &by, now)?;
    }
    if old.streaming {
        execute(connection, &streams::delete(old.id))?;
    }
    execute(connection, &EraseAuthor::replace_author(&new))?;
    let new = Arc::new(new);
    // Clients show no author of a deleted message.
    Ok(if was_deleted {
        Change::Unchanged(new)
    } else {
        Change::Done(new)
    })
}
