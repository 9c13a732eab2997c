//! The SQL of messages: storing, changing, reading and searching them.

use std::pin::pin;
use std::sync::Arc;

use deadpool_postgres::ClientWrapper;
use futures_util::TryStreamExt;
use jiff::Timestamp;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Error, RowStream};
use uuid::Uuid;

use crate::store::change::annotations::postgres::{show, shown_page};
use crate::store::change::members::postgres::is_member;
use crate::store::change::messages::list;
use crate::store::change::messages::streams::{self, postgres::NewStreams};
use crate::store::change::{Actor, Change, Delete, Edit, Message, NewMessage, Search};
use crate::store::page::{Messages, Page, PageBuilder};
use crate::store::postgres::group::LockedRows;
use crate::store::postgres::sql::{CachedStatements, execute, one_more, record, signed};
use crate::store::postgres::{Postgres, read};
use crate::store::statement::EXPIRE_LOCK;
use crate::store::{StoreError, Time};

/// The columns of a message. Queries name columns everywhere: a prepared statement with `*` fails
/// once a newer server adds a column.
macro_rules! message_columns {
    () => {
        "id, conversation_id, seq, user_id, user_name, content, type, metadata, reply_to, mentions, \
         version, created_at, edited_at, deleted_at, interrupted"
    };
}

pub(in crate::store) use message_columns;

impl Postgres {
    pub(in crate::store) async fn messages(
        &self,
        conversation: Uuid,
        user: Option<&str>,
        page: Page,
        limit: usize,
    ) -> Result<Option<Messages>, StoreError> {
        read!(self, client => messages(client, conversation, user, page, limit))
    }

    pub(in crate::store) async fn search(
        &self,
        user: &str,
        search: Search,
        limit: usize,
    ) -> Result<Option<Messages>, StoreError> {
        read!(self, client => self::search(client, user, &search, limit))
    }

    pub(in crate::store) async fn expire(
        &self,
        time: Time,
        limit: usize,
    ) -> Result<u64, StoreError> {
        read!(self, client => expire(client, time, limit))
    }
}

/// The columns of the messages that a group inserts.
#[derive(Default)]
pub(in crate::store) struct NewRows {
    ids: Vec<Uuid>,
    conversation_ids: Vec<Uuid>,
    seqs: Vec<i64>,
    user_ids: Vec<String>,
    user_names: Vec<String>,
    contents: Vec<String>,
    kinds: Vec<&'static str>,
    metadata: Vec<String>,
    client_message_ids: Vec<Option<String>>,
    replies_to: Vec<Option<Uuid>>,
    /// JSON lists, because a PostgreSQL array cannot contain arrays of different lengths.
    mentions: Vec<Option<String>>,
    streams: NewStreams,
}

impl NewRows {
    pub(in crate::store) fn push(&mut self, message: &Message, new: &NewMessage) {
        self.ids.push(message.id);
        self.conversation_ids.push(message.conversation_id);
        self.seqs.push(signed(message.seq));
        self.user_ids.push(message.user_id.clone());
        self.user_names.push(message.user_name.clone());
        self.contents.push(message.content.clone());
        self.kinds.push(message.kind.as_str());
        self.metadata.push(message.metadata.get().to_owned());
        self.client_message_ids.push(new.client_message_id.clone());
        self.replies_to.push(message.answers);
        let mentions = (!message.mentions.is_empty()).then_some(&message.mentions);
        let list = mentions.map(|all| list(all));
        self.mentions.push(list);
        if let Some(holder) = new.holder {
            self.streams.push(message, holder);
        }
    }

    pub(in crate::store) async fn insert(
        &self,
        client: &ClientWrapper,
        now: Time,
    ) -> Result<(), Error> {
        // Groups with read marks only are common and need no round trip.
        if self.ids.is_empty() {
            return Ok(());
        }
        client
            .execute_cached(
                "INSERT INTO messages (id, conversation_id, seq, user_id, user_name, content, type,
                     metadata, client_message_id, reply_to, mentions, created_at)
                 SELECT *, $12::timestamptz FROM unnest($1::uuid[], $2::uuid[], $3::int8[],
                     $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
                     $10::uuid[], $11::text[])",
                &[
                    &self.ids,
                    &self.conversation_ids,
                    &self.seqs,
                    &self.user_ids,
                    &self.user_names,
                    &self.contents,
                    &self.kinds,
                    &self.metadata,
                    &self.client_message_ids,
                    &self.replies_to,
                    &self.mentions,
                    &now.timestamp(),
                ],
            )
            .await?;
        self.streams.insert(client, now).await
    }
}

pub(in crate::store) async fn change_text(
    client: &ClientWrapper,
    locked: &LockedRows,
    edit: &Edit,
    now: Time,
) -> Result<Change<Arc<Message>>, Error> {
    let old = match changeable(client, locked, edit.message_id, &edit.by).await? {
        Ok(message) if Edit::is_possible(message.deleted_at.is_some()) => message,
        Ok(_) => return Ok(Change::Absent),
        Err(refused) => return Ok(refused),
    };
    if old.streaming || edit.version.is_some_and(|version| version != old.version) {
        return Ok(Change::Conflict);
    }
    let new = old.edited(edit.content.clone(), now);
    replace(client, &old, &new, &edit.by, now).await?;
    Ok(Change::Done(Arc::new(new)))
}

pub(in crate::store) async fn remove_text(
    client: &ClientWrapper,
    locked: &LockedRows,
    delete: &Delete,
    now: Time,
) -> Result<Change<Arc<Message>>, Error> {
    let old = match changeable(client, locked, delete.message_id, &delete.by).await? {
        Ok(message) if message.deleted_at.is_none() => message,
        Ok(message) => return Ok(Change::Unchanged(Arc::new(message))),
        Err(refused) => return Ok(refused),
    };
    let new = old.deleted(now);
    replace(client, &old, &new, &delete.by, now).await?;
    if old.streaming {
        execute(client, &streams::delete(old.id)).await?;
    }
    Ok(Change::Done(Arc::new(new)))
}

/// Returns a message that `by` may change, or the refusal. The lock of the conversation keeps it
/// unchanged.
async fn changeable(
    client: &ClientWrapper,
    locked: &LockedRows,
    id: Uuid,
    by: &Actor,
) -> Result<Result<Message, Change<Arc<Message>>>, Error> {
    let Some(message) = find(client, id).await? else {
        return Ok(Err(Change::Absent));
    };
    let mut found = [Arc::new(message)];
    show(client, &mut found, None).await?;
    let [message] = found;
    let message = Arc::unwrap_or_clone(message);
    if !locked.rooms.contains_key(&message.conversation_id) {
        return Ok(Err(Change::Absent));
    }
    let is_member = locked.admits(message.conversation_id, &by.user_id);
    Ok(match message.refuses(by, is_member) {
        Some(refused) => Err(refused),
        None => Ok(message),
    })
}

pub(in crate::store) async fn replace(
    client: &ClientWrapper,
    old: &Message,
    new: &Message,
    by: &Actor,
    now: Time,
) -> Result<(), Error> {
    let optional = |time: Option<Time>| time.map(Time::timestamp);
    let version = i32::try_from(new.version).unwrap_or(i32::MAX);
    let (edited, deleted): (Option<Timestamp>, Option<Timestamp>) =
        (optional(new.edited_at), optional(new.deleted_at));
    client
        .execute_cached(
            "WITH kept AS (
                 INSERT INTO message_versions
                     (message_id, version, content, metadata, replaced_at, replaced_by)
                 SELECT id, version, content, metadata, $7, $8 FROM messages WHERE id = $1)
             UPDATE messages SET content = $2, metadata = $3, version = $4, edited_at = $5,
                 deleted_at = $6, interrupted = $9 WHERE id = $1",
            &[
                &old.id,
                &new.content,
                &new.metadata.get(),
                &version,
                &edited,
                &deleted,
                &now.timestamp(),
                &by.user_id,
                &new.interruption(),
            ],
        )
        .await
        .map(|_| ())
}

/// Returns the row of a message, without its quote and reactions.
pub(in crate::store) async fn find(
    client: &ClientWrapper,
    id: Uuid,
) -> Result<Option<Message>, Error> {
    client
        .query_opt_cached(
            concat!(
                "SELECT ",
                message_columns!(),
                " FROM messages WHERE id = $1"
            ),
            &[&id],
            record,
        )
        .await
}

/// Returns the rows of the existing messages among these ids.
pub(in crate::store) async fn find_all(
    client: &ClientWrapper,
    ids: &[Uuid],
) -> Result<Vec<Message>, Error> {
    client
        .query_cached(
            concat!(
                "SELECT ",
                message_columns!(),
                " FROM messages WHERE id = ANY($1)"
            ),
            &[&ids],
            record,
        )
        .await
}

/// Returns a page of messages, or `None` if the conversation is unknown or the user is not a
/// member.
pub(in crate::store) async fn messages(
    client: &ClientWrapper,
    conversation: Uuid,
    user: Option<&str>,
    page: Page,
    limit: usize,
) -> Result<Option<Messages>, Error> {
    const ASCENDING: &str = concat!(
        "SELECT ",
        message_columns!(),
        " FROM messages WHERE conversation_id = $1 AND seq > $2 AND seq < $3 ORDER BY seq LIMIT $4"
    );
    const DESCENDING: &str = concat!(
        "SELECT ",
        message_columns!(),
        " FROM messages WHERE conversation_id = $1 AND seq > $2 AND seq < $3
          ORDER BY seq DESC LIMIT $4"
    );
    let (after, before, descending) = match page {
        Page::Newest => (0, i64::MAX, true),
        Page::Before(seq) => (0, signed(seq), true),
        Page::After(seq) => (signed(seq), i64::MAX, false),
        Page::Between { after, through } => {
            (signed(after), signed(through.saturating_add(1)), false)
        }
    };
    let statement = client
        // Separate statements instead of a condition let each use the index in its own direction.
        .prepare_cached(if descending { DESCENDING } else { ASCENDING })
        .await?;
    let limits = one_more(limit);
    let parameters: [&(dyn ToSql + Sync); 4] = [&conversation, &after, &before, &limits];
    // Rows are streamed, because a page may end by its size long before its limit.
    let rows = client.query_raw(&statement, parameters).await?;
    let found = collect(rows, limit, descending).await?;
    let found = shown_page(client, found, user, descending).await?;
    // Membership is checked last, so that a user who was removed in the meantime does not get later
    // messages.
    Ok(is_member(client, conversation, user)
        .await?
        .then_some(found))
}

/// Returns the newest messages that contain all the words, the last as a prefix.
async fn search(
    client: &ClientWrapper,
    user: &str,
    search: &Search,
    limit: usize,
) -> Result<Option<Messages>, Error> {
    let conversations = match search.conversation {
        None => own(client, user).await?,
        Some(id) if is_member(client, id, Some(user)).await? => vec![id],
        Some(_) => return Ok(None),
    };
    if search.words.is_empty() || conversations.is_empty() {
        return Ok(Some(Messages::default()));
    }
    let (words, limits) = (search.words.join(" "), one_more(limit));
    // The search is not prepared: the best plan depends on how common the words are and how many
    // messages these conversations have.
    let parameters: [(&(dyn ToSql + Sync), Type); 4] = [
        (&words, Type::TEXT),
        (&search.before, Type::UUID),
        (&conversations, Type::UUID_ARRAY),
        (&limits, Type::INT8),
    ];
    let rows = client.query_typed_raw(SEARCH, parameters).await?;
    let found = collect(rows, limit, true).await?;
    let mut found = shown_page(client, found, Some(user), true).await?;
    // Membership is checked again, so that a user who was removed in the meantime does not get
    // later messages.
    let still = match search.conversation {
        None => own(client, user).await?,
        Some(id) if is_member(client, id, Some(user)).await? => vec![id],
        Some(_) => return Ok(None),
    };
    found
        .messages
        .retain(|message| still.contains(&message.conversation_id));
    Ok(Some(found))
}

/// The words become a query such as `' quick' & ' bro':*`. They are split as `roomcast_words`
/// splits contents, so that the quotes contain only letters, digits and spaces. The spaces prevent
/// an empty operand, which would be a syntax error.
const SEARCH: &str = concat!(
    "SELECT ",
    message_columns!(),
    " FROM messages
     WHERE roomcast_words(content) @@ to_tsquery('pg_catalog.simple',
             ''' ' || regexp_replace(lower($1), '[^[:alnum:]]+', ''' & '' ', 'g') || ''':*')
         AND ($2::uuid IS NULL OR id < $2) AND conversation_id = ANY($3)
     ORDER BY id DESC LIMIT $4",
);

/// Returns the conversations that a user may read.
async fn own(client: &ClientWrapper, user: &str) -> Result<Vec<Uuid>, Error> {
    client
        .query_cached(
            "SELECT id FROM members JOIN conversations ON id = conversation_id
             WHERE user_id = $1 AND deleted_at IS NULL
             UNION SELECT id FROM conversations WHERE is_open",
            &[&user],
            |row| row.try_get(0),
        )
        .await
}

/// Removes the oldest messages of each affected conversation, unless another server is doing so.
async fn expire(client: &ClientWrapper, before: Time, limit: usize) -> Result<u64, Error> {
    client
        .execute_cached(
            "WITH mine AS MATERIALIZED (SELECT pg_try_advisory_xact_lock($1) AS locked),
             old AS MATERIALIZED (
                 SELECT conversation_id, max(seq) AS seq FROM (
                     SELECT conversation_id, seq FROM messages
                     WHERE id < $2 AND created_at < $3 ORDER BY id LIMIT $4) oldest
                 GROUP BY conversation_id)
             DELETE FROM messages USING old, mine
             WHERE mine.locked AND messages.conversation_id = old.conversation_id
                 AND messages.seq <= old.seq",
            &[
                &EXPIRE_LOCK,
                // The bound on the id lets the primary key find old messages, because ids ascend
                // with time.
                &before.first_id(),
                &before.timestamp(),
                &i64::try_from(limit).unwrap_or(i64::MAX),
            ],
        )
        .await
}

/// Streams rows until the page is full, so that no surplus rows are held in memory.
async fn collect(rows: RowStream, limit: usize, descending: bool) -> Result<Messages, Error> {
    let mut rows = pin!(rows);
    let mut builder = PageBuilder::new(limit);
    while let Some(row) = rows.try_next().await? {
        if !builder.push(Arc::new(record(&row)?)) {
            break;
        }
    }
    Ok(builder.finish(descending))
}
