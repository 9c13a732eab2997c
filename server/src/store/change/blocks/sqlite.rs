//! The SQL of blocked networks.

use std::str::FromStr;

use rusqlite::types::Type;
use rusqlite::{Connection, Row, params};
use std::time::SystemTime;
use uuid::Uuid;

use crate::store::change::blocks::BlockChange;
use crate::store::sqlite::Sqlite;
use crate::store::sqlite::sql::CachedStatements;
use crate::store::{StoreError, Time};
use roomcast::network::{Block, BlockSource};

impl Sqlite {
    pub(in crate::store) async fn change_blocks(
        &self,
        change: BlockChange,
    ) -> Result<(), StoreError> {
        self.write(move |connection| apply(connection, &change))
            .await
    }

    /// Returns all blocks, oldest first.
    pub(in crate::store) async fn blocks(&self) -> Result<Vec<Block>, StoreError> {
        self.read(move |connection| {
            connection.query_cached("SELECT * FROM blocks ORDER BY created_at, id", [], row)
        })
        .await
    }
}

/// Applies a change.
fn apply(connection: &Connection, change: &BlockChange) -> rusqlite::Result<()> {
    match change {
        BlockChange::Insert(block) => {
            connection.execute_cached(
                "INSERT OR REPLACE INTO blocks
                     (id, cidr, reason, source, created_at, expires_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![
                    block.id.to_string(),
                    block.cidr.to_string(),
                    block.reason,
                    block.source.name(),
                    Time::from(block.created_at),
                    block.expires_at.map(Time::from),
                ],
            )?;
        }
        BlockChange::Delete(ids) => {
            let mut delete = connection.prepare_cached("DELETE FROM blocks WHERE id = ?1")?;
            for id in ids {
                delete.execute([id.to_string()])?;
            }
        }
    }
    Ok(())
}

fn row(row: &Row<'_>) -> rusqlite::Result<Block> {
    let source: String = row.get("source")?;
    let expires_at: Option<String> = row.get("expires_at")?;
    let expires_at = expires_at.map(|text| read::<Time>(&text)).transpose()?;
    Ok(Block::restored(
        read::<Uuid>(&row.get::<_, String>("id")?)?,
        read(&row.get::<_, String>("cidr")?)?,
        row.get("reason")?,
        BlockSource::parse(&source).unwrap_or(BlockSource::Admin),
        read::<Time>(&row.get::<_, String>("created_at")?)?.into(),
        expires_at.map(SystemTime::from),
    ))
}

fn read<T: FromStr<Err: std::error::Error + Send + Sync + 'static>>(
    text: &str,
) -> rusqlite::Result<T> {
    let broken = |error| rusqlite::Error::FromSqlConversionFailure(0, Type::Text, Box::new(error));
    text.parse().map_err(broken)
}
