//! Cached statements, and the conversion of values between rows and Rust.

use std::future::Future;
use std::sync::Arc;

use bytes::BytesMut;
use deadpool_postgres::ClientWrapper;
use jiff::Timestamp;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Error, Row};
use uuid::Uuid;

use super::Postgres;
use super::reading::{change, read};
use crate::store::statement::{self, Column, Columns, Record, Statement, Value};
pub(in crate::store) use crate::store::statement::{one_more, signed, unsigned};
use crate::store::{StoreError, Time};

/// Runs statements that each connection prepares once.
///
/// The SQL is static, because a connection keeps every prepared statement.
pub(in crate::store) trait CachedStatements: Sync {
    /// Returns the connection.
    fn client(&self) -> &ClientWrapper;

    /// Returns the number of changed rows.
    fn execute_cached(
        &self,
        sql: &'static str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> impl Future<Output = Result<u64, Error>> + Send {
        async move {
            let statement = self.client().prepare_cached(sql).await?;
            self.client().execute(&statement, parameters).await
        }
    }

    /// Returns all rows, each converted by `read`.
    fn query_cached<T>(
        &self,
        sql: &'static str,
        parameters: &[&(dyn ToSql + Sync)],
        read: impl FnMut(&Row) -> Result<T, Error> + Send,
    ) -> impl Future<Output = Result<Vec<T>, Error>> + Send {
        async move {
            let statement = self.client().prepare_cached(sql).await?;
            let rows = self.client().query(&statement, parameters).await?;
            rows.iter().map(read).collect()
        }
    }

    /// Returns the only row.
    fn query_one_cached<T>(
        &self,
        sql: &'static str,
        parameters: &[&(dyn ToSql + Sync)],
        read: impl FnOnce(&Row) -> Result<T, Error> + Send,
    ) -> impl Future<Output = Result<T, Error>> + Send {
        async move {
            let statement = self.client().prepare_cached(sql).await?;
            let row = self.client().query_one(&statement, parameters).await?;
            read(&row)
        }
    }

    /// Returns the only row, or `None` if there is none.
    fn query_opt_cached<T>(
        &self,
        sql: &'static str,
        parameters: &[&(dyn ToSql + Sync)],
        read: impl FnOnce(&Row) -> Result<T, Error> + Send,
    ) -> impl Future<Output = Result<Option<T>, Error>> + Send {
        async move {
            let statement = self.client().prepare_cached(sql).await?;
            let row = self.client().query_opt(&statement, parameters).await?;
            row.as_ref().map(read).transpose()
        }
    }
}

impl CachedStatements for ClientWrapper {
    fn client(&self) -> &ClientWrapper {
        self
    }
}

impl Postgres {
    pub(in crate::store) async fn rows(
        &self,
        query: Statement,
    ) -> Result<Vec<statement::Row>, StoreError> {
        read!(self, client => rows(client, &query))
    }

    pub(in crate::store) async fn change_rows(
        &self,
        change: Statement,
    ) -> Result<Vec<statement::Row>, StoreError> {
        change!(self, client => rows(client, &change))
    }

    pub(in crate::store) async fn execute(&self, change: Statement) -> Result<u64, StoreError> {
        change!(self, client => execute(client, &change))
    }

    pub(in crate::store) async fn tidy(&self, change: Statement) -> Result<u64, StoreError> {
        read!(self, client => execute(client, &change))
    }
}

/// Returns the rows of a statement.
pub(super) async fn rows(
    client: &ClientWrapper,
    statement: &Statement,
) -> Result<Vec<statement::Row>, Error> {
    let prepared = client.prepare_cached(statement.postgres).await?;
    let rows = client.query(&prepared, &parameters(statement)).await?;
    let columns = prepared.columns().iter();
    let columns: Arc<[String]> = columns.map(|column| column.name().to_owned()).collect();
    let rows = rows.iter().map(|row| {
        let values = (0..row.len()).map(|column| row.try_get(column));
        Ok(statement::Row::new(
            &columns,
            values.collect::<Result<_, _>>()?,
        ))
    });
    rows.collect()
}

/// Returns the number of rows that a statement changes.
pub(in crate::store) async fn execute(
    client: &ClientWrapper,
    statement: &Statement,
) -> Result<u64, Error> {
    client
        .execute_cached(statement.postgres, &parameters(statement))
        .await
}

/// Returns the rows of a statement, each as a record.
pub(in crate::store) async fn query<T: Record>(
    client: &ClientWrapper,
    statement: &Statement,
) -> Result<Vec<T>, Error> {
    client
        .query_cached(statement.postgres, &parameters(statement), record)
        .await
}

/// Returns the parameters of a statement.
pub(super) fn parameters(statement: &Statement) -> Vec<&(dyn ToSql + Sync)> {
    let parameters = statement.parameters.iter();
    parameters
        .map(|value| value as &(dyn ToSql + Sync))
        .collect()
}

type ConversionError = Box<dyn std::error::Error + Sync + Send>;

impl ToSql for Value {
    fn to_sql(&self, kind: &Type, out: &mut BytesMut) -> Result<IsNull, ConversionError> {
        match self {
            Self::Null => Ok(IsNull::Yes),
            Self::Flag(flag) => flag.to_sql_checked(kind, out),
            Self::Number(number) if *kind == Type::INT4 => {
                let number = i32::try_from(*number).unwrap_or(i32::MAX);
                number.to_sql_checked(kind, out)
            }
            Self::Number(number) => number.to_sql_checked(kind, out),
            Self::Text(text) => text.to_sql_checked(kind, out),
            Self::Texts(texts) => texts.to_sql_checked(kind, out),
            Self::Id(id) => id.to_sql_checked(kind, out),
            Self::Ids(ids) => ids.to_sql_checked(kind, out),
            Self::Time(time) => time.timestamp().to_sql_checked(kind, out),
        }
    }

    fn accepts(_: &Type) -> bool {
        // Each variant checks the type itself.
        true
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Value {
    fn from_sql(kind: &Type, raw: &'a [u8]) -> Result<Self, ConversionError> {
        Ok(match *kind {
            Type::BOOL => Self::Flag(bool::from_sql(kind, raw)?),
            Type::INT4 => Self::Number(i32::from_sql(kind, raw)?.into()),
            Type::INT8 => Self::Number(i64::from_sql(kind, raw)?),
            Type::UUID => Self::Id(Uuid::from_sql(kind, raw)?),
            Type::TIMESTAMPTZ => Self::Time(Timestamp::from_sql(kind, raw)?.into()),
            Type::TEXT_ARRAY => Self::Texts(Vec::from_sql(kind, raw)?),
            _ => Self::Text(String::from_sql(kind, raw)?),
        })
    }

    fn from_sql_null(_: &Type) -> Result<Self, ConversionError> {
        Ok(Self::Null)
    }

    fn accepts(kind: &Type) -> bool {
        let known = [
            Type::BOOL,
            Type::INT4,
            Type::INT8,
            Type::UUID,
            Type::TIMESTAMPTZ,
            Type::TEXT_ARRAY,
        ];
        known.contains(kind) || <String as FromSql>::accepts(kind)
    }
}

/// A column of another type than the database's.
struct Stored<T>(T);

impl<T: Column> Stored<T> {
    fn of(value: Value) -> Result<Self, ConversionError> {
        let stored = T::of(value).map(Self);
        stored.ok_or_else(|| "the value has an unexpected type".into())
    }
}

impl<'a, T: Column> FromSql<'a> for Stored<T> {
    fn from_sql(kind: &Type, raw: &'a [u8]) -> Result<Self, ConversionError> {
        Self::of(Value::from_sql(kind, raw)?)
    }

    fn from_sql_null(_: &Type) -> Result<Self, ConversionError> {
        Self::of(Value::Null)
    }

    fn accepts(kind: &Type) -> bool {
        <Value as FromSql>::accepts(kind)
    }
}

impl Columns for Row {
    type Error = Error;

    fn get<T: Column>(&self, column: &str) -> Result<T, Error> {
        let stored = self.try_get(column);
        stored.map(|Stored(value)| value)
    }
}

/// Reads a row.
pub(in crate::store) fn record<T: Record>(row: &Row) -> Result<T, Error> {
    T::read(row)
}

pub(in crate::store) fn time(row: &Row, column: &str) -> Result<Time, Error> {
    row.try_get::<_, Timestamp>(column).map(Time::from)
}

/// Returns the unique id of the database.
pub(in crate::store) async fn store_id(client: &ClientWrapper) -> Result<Uuid, Error> {
    let sql = "SELECT store_id FROM roomcast_schema";
    client
        .query_one_cached(sql, &[], |row| row.try_get(0))
        .await
}
