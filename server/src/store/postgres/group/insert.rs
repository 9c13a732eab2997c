//! Inserts the new messages of a group with one statement.

use deadpool_postgres::ClientWrapper;
use tokio_postgres::Error;
use uuid::Uuid;

use super::super::queries::signed;
use crate::store::Time;
use crate::store::rows::Message;

/// The columns of the messages that a group inserts.
#[derive(Default)]
pub(super) struct Rows {
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
}

impl Rows {
    pub(super) fn push(&mut self, message: &Message, client_message_id: Option<String>) {
        self.ids.push(message.id);
        self.conversation_ids.push(message.conversation_id);
        self.seqs.push(signed(message.seq));
        self.user_ids.push(message.user_id.clone());
        self.user_names.push(message.user_name.clone());
        self.contents.push(message.content.clone());
        self.kinds.push(message.kind.as_str());
        self.metadata.push(message.metadata.get().to_owned());
        self.client_message_ids.push(client_message_id);
        self.replies_to.push(message.answers);
        let mentions = (!message.mentions.is_empty()).then_some(&message.mentions);
        let list = mentions.map(|all| serde_json::to_string(all).expect("texts are JSON"));
        self.mentions.push(list);
    }

    pub(super) async fn insert(&self, client: &ClientWrapper, now: Time) -> Result<(), Error> {
        // Groups with read marks only are common and need no round trip.
        if self.ids.is_empty() {
            return Ok(());
        }
        let statement = client
            .prepare_cached(
                "INSERT INTO messages (id, conversation_id, seq, user_id, user_name, content, type,
                     metadata, client_message_id, reply_to, mentions, created_at)
                 SELECT *, $12::timestamptz FROM unnest($1::uuid[], $2::uuid[], $3::int8[],
                     $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
                     $10::uuid[], $11::text[])",
            )
            .await?;
        client
            .execute(
                &statement,
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
            .await
            .map(|_| ())
    }
}
