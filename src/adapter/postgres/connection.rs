//! Connections to PostgreSQL, and the statements on them.
//!
//! Every statement is its own transaction that does not wait for the disk. No statement is prepared
//! on a connection, so nothing remains if a pooler shares the connection with other clients.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::timeout;
use tokio_postgres::{
    Client, Connection, Socket,
    error::{Severity, SqlState},
    types::{ToSql, Type},
};

use super::{address::Address, tls::Stream};
use crate::{
    adapter::{
        common::{Outgoing, chain},
        envelope::Envelope,
    },
    time::while_awake,
};

/// Drives a connection and receives notifications.
pub(crate) type Driver = Connection<Socket, Stream>;

/// A connection to PostgreSQL, which works as long as its driver is polled.
pub(crate) struct BrokerConnection {
    client: Client,
    table: Table,
}

/// The SQL name of the table for messages that are binary or too long for a notification.
#[derive(Clone, Debug)]
pub(crate) struct Table(String);

/// An outgoing message.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) channel: Arc<str>,
    pub(crate) body: Body,
    /// Whether the message is a heartbeat, greeting or leave message.
    pub(crate) is_pulse: bool,
    /// Whether its loss counts.
    pub(crate) counts: bool,
    /// Whether the message uses the connection for separate namespaces.
    pub(crate) is_apart: bool,
}

#[derive(Debug)]
pub(crate) enum Body {
    Text(String),
    /// A row of the table, and the first and last part of its notification. The id of the row is
    /// between them.
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

    fn is_sent_alone(&self) -> bool {
        matches!(self.body, Body::Attached { .. })
    }
}

/// The result of fetching a row.
#[derive(Debug)]
pub(crate) enum Attachment {
    Found(Bytes),
    TooLarge,
    /// The row does not exist or cannot be read.
    Missing,
}

impl Table {
    /// Quotes a name, or a schema and a name separated by a point.
    pub(crate) fn new(name: &str) -> Self {
        let parts: Vec<_> = name.split('.').map(quote).collect();
        Self(parts.join("."))
    }
}

/// Quotes an identifier.
pub(crate) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

impl Address {
    pub(crate) async fn connect(
        &self,
        table: &Table,
    ) -> Result<(BrokerConnection, Driver), String> {
        let connecting = self.config.connect(self.tls.clone());
        let (client, driver) = match timeout(CONNECT, connecting).await {
            Ok(connected) => connected.map_err(|error| chain(&error))?,
            Err(_) => return Err(SILENT.to_owned()),
        };
        // Other encodings cannot represent all strings, and SQL_ASCII has no encoding at all.
        let encoding = driver.parameter("server_encoding").unwrap_or_default();
        if encoding != "UTF8" {
            return Err(format!(
                "the database's encoding is {encoding} and not UTF8"
            ));
        }
        let table = table.clone();
        Ok((BrokerConnection { client, table }, driver))
    }
}

type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

impl BrokerConnection {
    /// Returns the client, for statements of other modules.
    pub(super) const fn client(&self) -> &Client {
        &self.client
    }

    /// Creates the table if it does not exist. Returns `Ok(Err)` with the reason if rows cannot be
    /// stored in it.
    pub(crate) async fn prepare(&self) -> Result<Result<(), String>, String> {
        let Table(table) = &self.table;
        let sql = "SELECT to_regclass($1) IS NOT NULL AS exists, CASE WHEN to_regclass($1) IS NOT NULL THEN (
                       SELECT string_agg(lacks, ', ') FROM (
                           SELECT privilege FROM unnest(ARRAY['SELECT', 'INSERT', 'DELETE']) AS privilege
                           WHERE NOT has_table_privilege(to_regclass($1), privilege)
                           UNION ALL
                           SELECT 'USAGE of the sequence of its ids'
                           WHERE NOT has_sequence_privilege(pg_get_serial_sequence($1, 'id'), 'USAGE')
                       ) AS all_of_them(lacks)
                   ) END AS lacking";
        let parameters: [Parameter<'_>; 1] = [(table, Type::TEXT)];
        let row = match answered(self.client.query_typed_one(sql, &parameters)).await? {
            Ok(row) => row,
            Err(why) => return Ok(Err(format!("the table {table} cannot be used: {why}"))),
        };
        let unread = |error| chain(&error);
        let exists: bool = row.try_get("exists").map_err(unread)?;
        let lacking: Option<String> = row.try_get("lacking").map_err(unread)?;
        if let Some(lacking) = lacking {
            let why = format!("the role lacks privileges on the table {table}: {lacking}");
            return Ok(Err(why));
        }
        if exists {
            return Ok(Ok(()));
        }
        // Two servers that create the table concurrently would conflict.
        let sql = format!(
            "SELECT pg_advisory_xact_lock({TABLE_LOCK});
             CREATE TABLE IF NOT EXISTS {table} (
                 id bigserial UNIQUE, created_at timestamptz DEFAULT NOW(), payload bytea
             )"
        );
        let made = answered(self.client.batch_execute(&sql)).await?;
        Ok(
            made.map_err(|why| {
                format!("the table {table} is missing and cannot be created: {why}")
            }),
        )
    }

    /// Returns the id of the backend process of this connection, which is the sender of its
    /// notifications.
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

    /// Sends notifications in this order, in one transaction. PostgreSQL merges equal notifications
    /// on one channel. Returns `Ok(Err)` if the database refuses them; then none is sent.
    pub(crate) async fn notify<'a>(
        &self,
        messages: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Result<(), String>, String> {
        let (channels, texts): (Vec<_>, Vec<_>) = messages.into_iter().unzip();
        // PostgreSQL skips a subquery without references, hence the condition on `quick`.
        let sql = "WITH quick AS (SELECT set_config('synchronous_commit', 'off', true) AS now)
                   SELECT pg_notify(channel, message)
                   FROM quick, unnest($1, $2) WITH ORDINALITY AS sent(channel, message, number)
                   WHERE now = 'off' ORDER BY number";
        let parameters: [Parameter<'_>; 2] =
            [(&channels, Type::TEXT_ARRAY), (&texts, Type::TEXT_ARRAY)];
        let sent = answered(self.client.query_typed(sql, &parameters)).await?;
        Ok(sent.map(drop))
    }

    /// Stores a row and sends its notification. Returns `Ok(Err)` if the database refuses to store
    /// it.
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

    /// Reads a row. Its content is only transferred if its size is within the limit.
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
                crate::throttled_log!(warn, why, "could not read an attachment of another server");
                return Ok(Attachment::Missing);
            }
        };
        Ok(match row.map(|row| row.try_get::<_, Option<Vec<u8>>>(0)) {
            Some(Ok(Some(payload))) => Attachment::Found(payload.into()),
            Some(Ok(None)) => Attachment::TooLarge,
            Some(Err(_)) | None => Attachment::Missing,
        })
    }

    /// Removes some of the rows that are older than `age`. Returns whether there may be more.
    pub(crate) async fn clean_up(&self, age: Duration) -> Result<bool, String> {
        let Table(table) = &self.table;
        // The rows are not locked first (`FOR UPDATE`). That requires the permission to update
        // them, which no other statement needs. Servers that remove the same rows wait for each
        // other, in the order of the ids.
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

    /// Subscribes to channels, or unsubscribes from them.
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

/// Waits for the response of the database. The outer error is a broken connection or a timeout; the
/// inner error is a refused statement.
async fn answered<T>(
    response: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<Result<T, String>, String> {
    match while_awake(RESPONSE, response).await {
        Some(Ok(answer)) => Ok(Ok(answer)),
        Some(Err(error)) if is_refusal(&error) => Ok(Err(chain(&error))),
        Some(Err(error)) => Err(chain(&error)),
        None => Err(SILENT.to_owned()),
    }
}

/// Returns whether an error refuses one statement on a connection that remains usable. If the
/// server is read-only or shuts down, the connection ends, and the link connects to another server.
fn is_refusal(error: &tokio_postgres::Error) -> bool {
    let Some(refusal) = error.as_db_error() else {
        return false;
    };
    let is_over = refusal
        .parsed_severity()
        .is_some_and(|severity| matches!(severity, Severity::Fatal | Severity::Panic));
    let code = refusal.code();
    !(error.is_closed()
        || is_over
        || *code == SqlState::READ_ONLY_SQL_TRANSACTION
        || [ADMIN_SHUTDOWN, CRASH_SHUTDOWN, CANNOT_CONNECT_NOW].contains(&code.code()))
}

/// Waits for the response of the database. A refused statement also counts as a broken connection.
async fn timely<T>(
    response: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, String> {
    answered(response).await?
}

const SILENT: &str = "PostgreSQL does not answer";
const ADMIN_SHUTDOWN: &str = "57P01";
const CRASH_SHUTDOWN: &str = "57P02";
const CANNOT_CONNECT_NOW: &str = "57P03";
/// The timeout for connecting.
const CONNECT: Duration = Duration::from_secs(3);
/// The timeout for a response.
const RESPONSE: Duration = Duration::from_secs(4);
/// The maximum number of rows that one statement removes.
const ROWS: u64 = 1000;
/// The advisory lock for creating the table. The number is random, so that no application uses the
/// same.
const TABLE_LOCK: i64 = 0x5d2e_91f0_3a77;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_any_characters_are_quoted() {
        assert_eq!(
            quote(r#"a"; DROP TABLE b; --"#),
            r#""a""; DROP TABLE b; --""#
        );
        assert_eq!(Table::new("chat.files").0, r#""chat"."files""#);
    }
}
