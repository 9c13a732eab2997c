//! Cached statements, and the conversion of values between rows and Rust.

use std::sync::Arc;

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Connection, OptionalExtension, Params, Result, Row, ToSql};
use serde_json::json;
use uuid::Uuid;

use super::Sqlite;
use crate::store::statement::{self, Column, Columns, Record, Statement, Value};
pub(in crate::store) use crate::store::statement::{one_more, signed, unsigned};
use crate::store::{StoreError, Time};

/// Runs statements that the connection prepares once.
pub(in crate::store) trait CachedStatements {
    /// Returns the connection.
    fn connection(&self) -> &Connection;

    /// Returns the number of changed rows.
    fn execute_cached(&self, sql: &str, parameters: impl Params) -> Result<usize> {
        self.connection().prepare_cached(sql)?.execute(parameters)
    }

    /// Returns all rows, each converted by `read`.
    fn query_cached<T>(
        &self,
        sql: &str,
        parameters: impl Params,
        read: impl FnMut(&Row<'_>) -> Result<T>,
    ) -> Result<Vec<T>> {
        let mut statement = self.connection().prepare_cached(sql)?;
        statement.query_map(parameters, read)?.collect()
    }

    /// Returns the first row.
    fn query_one_cached<T>(
        &self,
        sql: &str,
        parameters: impl Params,
        read: impl FnOnce(&Row<'_>) -> Result<T>,
    ) -> Result<T> {
        let mut statement = self.connection().prepare_cached(sql)?;
        statement.query_row(parameters, read)
    }

    /// Returns the first row, or `None` if there is none.
    fn query_opt_cached<T>(
        &self,
        sql: &str,
        parameters: impl Params,
        read: impl FnOnce(&Row<'_>) -> Result<T>,
    ) -> Result<Option<T>> {
        self.query_one_cached(sql, parameters, read).optional()
    }
}

impl CachedStatements for Connection {
    fn connection(&self) -> &Connection {
        self
    }
}

impl Sqlite {
    pub(in crate::store) async fn rows(
        &self,
        query: Statement,
    ) -> Result<Vec<statement::Row>, StoreError> {
        self.read(move |connection| rows(connection, &query)).await
    }

    pub(in crate::store) async fn change_rows(
        &self,
        change: Statement,
    ) -> Result<Vec<statement::Row>, StoreError> {
        self.write(move |connection| rows(connection, &change))
            .await
    }

    pub(in crate::store) async fn execute(&self, change: Statement) -> Result<u64, StoreError> {
        self.write(move |connection| execute(connection, &change))
            .await
    }

    pub(in crate::store) async fn tidy(&self, change: Statement) -> Result<u64, StoreError> {
        self.execute(change).await
    }
}

/// Returns the rows of a statement.
fn rows(connection: &Connection, statement: &Statement) -> Result<Vec<statement::Row>> {
    let mut prepared = prepare(connection, statement)?;
    let columns: Arc<[String]> = prepared.column_names().map(str::to_owned).collect();
    let mut rows = prepared.raw_query();
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let values = (0..columns.len()).map(|column| row.get(column));
        found.push(statement::Row::new(
            &columns,
            values.collect::<Result<_>>()?,
        ));
    }
    Ok(found)
}

/// Returns the number of rows that a statement changes.
pub(in crate::store) fn execute(connection: &Connection, statement: &Statement) -> Result<u64> {
    Ok(prepare(connection, statement)?.raw_execute()? as u64)
}

/// Returns the rows of a statement, each as a record.
pub(in crate::store) fn query<T: Record>(
    connection: &Connection,
    statement: &Statement,
) -> Result<Vec<T>> {
    let mut prepared = prepare(connection, statement)?;
    prepared.raw_query().mapped(record).collect()
}

/// Binds the parameters that a statement refers to. SQLite numbers named parameters in the order of
/// the text, so each is found by its name.
fn prepare<'a>(connection: &'a Connection, statement: &Statement) -> Result<CachedStatement<'a>> {
    let mut prepared = connection.prepare_cached(statement.sqlite)?;
    for (number, value) in (1..).zip(&statement.parameters) {
        if let Some(index) = prepared.parameter_index(&format!("${number}"))? {
            prepared.raw_bind_parameter(index, value)?;
        }
    }
    Ok(prepared)
}

impl ToSql for Value {
    fn to_sql(&self) -> Result<ToSqlOutput<'_>> {
        Ok(match self {
            Self::Null => ToSqlOutput::Borrowed(ValueRef::Null),
            Self::Flag(flag) => (*flag).into(),
            Self::Number(number) => (*number).into(),
            Self::Text(text) => text.as_str().into(),
            Self::Texts(texts) => json!(texts).to_string().into(),
            Self::Id(id) => id.to_string().into(),
            Self::Ids(ids) => json!(ids).to_string().into(),
            Self::Time(time) => time.to_string().into(),
        })
    }
}

impl FromSql for Value {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        match value {
            ValueRef::Null => Ok(Self::Null),
            ValueRef::Integer(number) => Ok(Self::Number(number)),
            ValueRef::Text(_) => Ok(Self::Text(value.as_str()?.to_owned())),
            ValueRef::Real(_) | ValueRef::Blob(_) => Err(FromSqlError::InvalidType),
        }
    }
}

/// A column of another type than the database's.
struct Stored<T>(T);

impl<T: Column> FromSql for Stored<T> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let stored = T::of(Value::column_result(value)?).map(Self);
        stored.ok_or(FromSqlError::InvalidType)
    }
}

impl Columns for Row<'_> {
    type Error = rusqlite::Error;

    fn get<T: Column>(&self, column: &str) -> Result<T> {
        let stored = Row::get(self, column);
        stored.map(|Stored(value)| value)
    }
}

/// Reads a row.
pub(in crate::store) fn record<T: Record>(row: &Row<'_>) -> Result<T> {
    T::read(row)
}

/// A UUID that is stored as lower-case text.
pub(in crate::store) struct Id(pub(in crate::store) Uuid);

impl ToSql for Id {
    fn to_sql(&self) -> Result<ToSqlOutput<'_>> {
        Ok(self.0.to_string().into())
    }
}

impl FromSql for Id {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let id = Uuid::try_parse(value.as_str()?);
        id.map(Self)
            .map_err(|error| FromSqlError::Other(Box::new(error)))
    }
}

impl ToSql for Time {
    fn to_sql(&self) -> Result<ToSqlOutput<'_>> {
        Ok(self.to_string().into())
    }
}

impl FromSql for Time {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let time = value.as_str()?.parse();
        time.map_err(|error: jiff::Error| FromSqlError::Other(Box::new(error)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::statement::{Single, records, values};

    #[test]
    fn parameters_are_found_by_name_in_any_order() {
        let connection = Connection::open_in_memory().unwrap();
        let sql = "SELECT $3 || $1 || $3 AS value";
        let select = Statement::new(sql, values!["a", "unused", "c"]);
        let found: Vec<Single<String>> = records(&rows(&connection, &select).unwrap()).unwrap();
        assert_eq!(found[0].0, "cac");
    }
}
