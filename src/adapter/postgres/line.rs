//! Connections to PostgreSQL, and what is said on them.
//!
//! Every statement is a transaction of its own that does not wait for the disk, and none is prepared on
//! a connection: nothing is left behind where a pooler lends the same one to others.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::timeout;
use tokio_postgres::{
    Client, Connection, Socket,
    error::{Severity, SqlState},
    types::{ToSql, Type},
};

use super::{address::Address, tls::Stream};
use crate::adapter::{
    common::{Outgoing, chain},
    envelope::Envelope,
};

/// What moves the bytes of a connection, and brings notifications.
pub(crate) type Driver = Connection<Socket, Stream>;

/// A connection to PostgreSQL, which works as long as its driver is polled.
pub(crate) struct Line {
    client: Client,
    table: Table,
}

/// The table of what is no text, or too long for a notification; as SQL.
#[derive(Clone, Debug)]
pub(crate) struct Table(String);

/// A message on its way out.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) channel: Arc<str>,
    pub(crate) body: Body,
    /// Whether the message is a word of this server about itself.
    pub(crate) is_pulse: bool,
    /// Whether the message goes over the connection of namespaces that are apart.
    pub(crate) is_apart: bool,
}

#[derive(Debug)]
pub(crate) enum Body {
    Text(String),
    /// A row of the table, and the notification as it begins and ends; between stands the row's number.
    Attached {
        head: String,
        payload: Bytes,
        tail: &'static str,
    },
}

impl Outgoing for Message {
    fn bytes(&self) -> usize {
        self.channel.len()
            + match &self.body {
                Body::Text(text) => text.len(),
                Body::Attached { payload, .. } => payload.len(),
            }
    }

    fn is_pulse(&self) -> bool {
        self.is_pulse
    }

    fn is_apart(&self) -> bool {
        self.is_apart
    }

    fn is_alone(&self) -> bool {
        matches!(self.body, Body::Attached { .. })
    }
}

/// A row of the table.
#[derive(Debug)]
pub(crate) enum Attachment {
    Here(Bytes),
    TooLarge,
    /// The table is there, and cannot be read.
    Gone,
}

impl Table {
    /// A name, or that of a schema and a name, none of which has to be quoted.
    pub(crate) fn new(name: &str) -> Self {
        let parts: Vec<_> = name.split('.').map(quote).collect();
        Self(parts.join("."))
    }
}

/// An identifier. Nothing in it is special.
pub(crate) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

impl Address {
    pub(crate) async fn connect(&self, table: &Table) -> Result<(Line, Driver), String> {
        let connecting = self.config.connect(self.tls.clone());
        let (client, driver) = match timeout(CONNECT, connecting).await {
            Ok(connected) => connected.map_err(|error| chain(&error))?,
            Err(_) => return Err(SILENT.to_owned()),
        };
        // Other encodings have no place for some texts, and SQL_ASCII does not know what a text is.
        let encoding = driver.parameter("server_encoding").unwrap_or_default();
        if encoding != "UTF8" {
            return Err(format!(
                "the database's encoding is {encoding} and not UTF8"
            ));
        }
        let table = table.clone();
        Ok((Line { client, table }, driver))
    }
}

type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

impl Line {
    /// What statements of others are sent on.
    pub(super) const fn client(&self) -> &Client {
        &self.client
    }

    /// Makes the table if it is missing. `Ok(Err)` says why no rows can be stored in it.
    pub(crate) async fn prepare(&self) -> Result<Result<(), String>, String> {
        let Table(table) = &self.table;
        let sql = "SELECT to_regclass($1) IS NOT NULL, CASE WHEN to_regclass($1) IS NOT NULL THEN (
                       SELECT string_agg(lacks, ', ') FROM (
                           SELECT privilege FROM unnest(ARRAY['SELECT', 'INSERT', 'DELETE']) AS privilege
                           WHERE NOT has_table_privilege(to_regclass($1), privilege)
                           UNION ALL
                           SELECT 'USAGE of the sequence of its ids'
                           WHERE NOT has_sequence_privilege(pg_get_serial_sequence($1, 'id'), 'USAGE')
                       ) AS all_of_them(lacks)
                   ) END";
        let parameters: [Parameter<'_>; 1] = [(table, Type::TEXT)];
        let row = match answered(self.client.query_typed_one(sql, &parameters)).await? {
            Ok(row) => row,
            Err(why) => return Ok(Err(format!("the table {table} cannot be used: {why}"))),
        };
        let unread = |error| chain(&error);
        let exists: bool = row.try_get(0).map_err(unread)?;
        let lacking: Option<String> = row.try_get(1).map_err(unread)?;
        if let Some(lacking) = lacking {
            let why = format!("the role lacks privileges on the table {table}: {lacking}");
            return Ok(Err(why));
        }
        if exists {
            return Ok(Ok(()));
        }
        // Two servers that make the table at once would disturb each other.
        let sql = format!(
            "SELECT pg_advisory_xact_lock({TABLE_LOCK});
             CREATE TABLE IF NOT EXISTS {table} (
                 id bigserial UNIQUE, created_at timestamptz DEFAULT NOW(), payload bytea
             )"
        );
        let made = answered(self.client.batch_execute(&sql)).await?;
        Ok(made.map_err(|why| format!("the table {table} is missing and cannot be made: {why}")))
    }

    /// The process that serves this connection, which is who notifies.
    pub(crate) async fn process(&self) -> Result<i32, String> {
        self.value("SELECT pg_backend_pid()", &[]).await
    }

    async fn value<T>(&self, sql: &str, parameters: &[Parameter<'_>]) -> Result<T, String>
    where
        T: for<'a> tokio_postgres::types::FromSql<'a>,
    {
        let row = timely(self.client.query_typed_one(sql, parameters)).await?;
        row.try_get(0).map_err(|error| chain(&error))
    }

    /// Sends notifications in this order, in one transaction. Those that say the same on one channel
    /// would be taken for one. `Ok(Err)`: the database sends none of them.
    pub(crate) async fn notify<'a>(
        &self,
        messages: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Result<(), String>, String> {
        let (channels, texts): (Vec<_>, Vec<_>) = messages.into_iter().unzip();
        // PostgreSQL leaves out a subquery to which nothing refers, hence the condition on `quick`.
        let sql = "WITH quick AS (SELECT set_config('synchronous_commit', 'off', true) AS now)
                   SELECT pg_notify(channel, message)
                   FROM quick, unnest($1, $2) WITH ORDINALITY AS sent(channel, message, number)
                   WHERE now = 'off' ORDER BY number";
        let parameters: [Parameter<'_>; 2] =
            [(&channels, Type::TEXT_ARRAY), (&texts, Type::TEXT_ARRAY)];
        let sent = answered(self.client.query_typed(sql, &parameters)).await?;
        Ok(sent.map(drop))
    }

    /// Stores something and sends the notification of it. `Ok(Err)`: the database will not store it.
    pub(crate) async fn attach(
        &self,
        channel: &str,
        head: &str,
        payload: &[u8],
        tail: &str,
    ) -> Result<Result<(), String>, String> {
        let Table(table) = &self.table;
        let sql = format!(
            "WITH quick AS (SELECT set_config('synchronous_commit', 'off', true) AS now),
                  stored AS (INSERT INTO {table} (payload)
                             SELECT $3 FROM quick WHERE now = 'off' RETURNING id)
             SELECT pg_notify($1, $2 || id || $4) FROM stored"
        );
        let parameters: [Parameter<'_>; 4] = [
            (&channel, Type::TEXT),
            (&head, Type::TEXT),
            (&payload, Type::BYTEA),
            (&tail, Type::TEXT),
        ];
        answered(self.client.query_typed(&sql, &parameters))
            .await
            .map(|stored| stored.map(drop))
    }

    /// Reads something that was stored. It is not looked at before its size is known to be bearable.
    pub(crate) async fn fetch(&self, id: i64) -> Result<Attachment, String> {
        let Table(table) = &self.table;
        let sql = format!(
            "SELECT CASE WHEN octet_length(payload) <= $2 THEN payload END FROM {table} WHERE id = $1"
        );
        let most = i32::try_from(Envelope::MAX_BYTES).unwrap_or(i32::MAX);
        let parameters: [Parameter<'_>; 2] = [(&id, Type::INT8), (&most, Type::INT4)];
        let row = match answered(self.client.query_typed_opt(&sql, &parameters)).await? {
            Ok(row) => row,
            Err(why) => {
                crate::throttled_log!(warn, why, "an attachment of another server cannot be read");
                return Ok(Attachment::Gone);
            }
        };
        Ok(match row.map(|row| row.try_get::<_, Option<Vec<u8>>>(0)) {
            Some(Ok(Some(payload))) => Attachment::Here(payload.into()),
            Some(Ok(None)) => Attachment::TooLarge,
            Some(Err(_)) | None => Attachment::Gone,
        })
    }

    /// Removes some of the rows that nobody needs any more. Returns whether there may be more.
    pub(crate) async fn clean_up(&self, age: Duration) -> Result<bool, String> {
        let Table(table) = &self.table;
        // The rows are not locked first (`FOR UPDATE`): that takes the right to update them, which no
        // other statement needs. Servers that remove the same rows wait for each other, in the order
        // of the ids.
        let sql = format!(
            "WITH quick AS (SELECT set_config('synchronous_commit', 'off', true) AS now)
             DELETE FROM {table} WHERE id = ANY (ARRAY(
                 SELECT id FROM {table}, quick
                 WHERE created_at < now() - $1 * interval '1 second' AND quick.now = 'off'
                 ORDER BY id LIMIT {ROWS}
             ))"
        );
        let age = age.as_secs_f64();
        let parameters: [Parameter<'_>; 1] = [(&age, Type::FLOAT8)];
        let removed = timely(self.client.execute_typed(&sql, &parameters)).await?;
        Ok(removed == ROWS)
    }

    /// Listens on channels, or not any more.
    pub(crate) async fn listen(&self, changes: &[(Arc<str>, bool)]) -> Result<(), String> {
        // LISTEN takes no parameters, so the names are quoted into the text.
        let mut sql = String::new();
        for (channel, on) in changes {
            sql += if *on { "LISTEN " } else { "UNLISTEN " };
            sql += &quote(channel);
            sql.push(';');
        }
        timely(self.client.batch_execute(&sql)).await
    }
}

/// What the database answers in time, or why there is no answer to be had on this connection.
async fn answered<T>(
    asked: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<Result<T, String>, String> {
    match timeout(RESPONSE, asked).await {
        Ok(Ok(answer)) => Ok(Ok(answer)),
        Ok(Err(error)) if is_refusal(&error) => Ok(Err(chain(&error))),
        Ok(Err(error)) => Err(chain(&error)),
        Err(_) => Err(SILENT.to_owned()),
    }
}

/// Whether an error is the answer to one statement on a connection that goes on. What says that this is the wrong server now, or one that
/// shuts down, is the end of the connection, which is then made to another one.
fn is_refusal(error: &tokio_postgres::Error) -> bool {
    let Some(told) = error.as_db_error() else {
        return false;
    };
    let is_over = told
        .parsed_severity()
        .is_some_and(|severity| matches!(severity, Severity::Fatal | Severity::Panic));
    let code = told.code();
    !(error.is_closed()
        || is_over
        || *code == SqlState::READ_ONLY_SQL_TRANSACTION
        || [ADMIN_SHUTDOWN, CRASH_SHUTDOWN, CANNOT_CONNECT_NOW].contains(&code.code()))
}

/// What the database answers in time. A refusal counts as a broken connection as well.
async fn timely<T>(
    asked: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, String> {
    answered(asked).await?
}

const SILENT: &str = "PostgreSQL does not answer";
const ADMIN_SHUTDOWN: &str = "57P01";
const CRASH_SHUTDOWN: &str = "57P02";
const CANNOT_CONNECT_NOW: &str = "57P03";
/// How long a connection and an answer may take.
const CONNECT: Duration = Duration::from_secs(3);
const RESPONSE: Duration = Duration::from_secs(4);
/// Rows that are removed at once.
const ROWS: u64 = 1000;
/// The advisory lock under which the table is made; drawn at random, so that no application has the same.
const TABLE_LOCK: i64 = 0x5d2e_91f0_3a77;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_whatever_is_in_them() {
        assert_eq!(
            quote(r#"a"; DROP TABLE b; --"#),
            r#""a""; DROP TABLE b; --""#
        );
        assert_eq!(Table::new("chat.files").0, r#""chat"."files""#);
    }
}
