//! Erases a user: ends its access, then erases its data a page at a time.
//!
//! Each request works for a limited time and returns a cursor until all is erased. Nothing else
//! records the progress: a step that is repeated finds less to do, so an erasure that was
//! interrupted anywhere is repeated from its cursor or from its beginning.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use uuid::Uuid;

use super::place::Progress;
use crate::auth::Permission;
use crate::service::api::nodes::diagnosis;
use crate::service::authorization::Allowed;
use crate::service::chat::Chat;
use crate::service::fault::ServiceError;
use crate::service::rules::commands::form::word;
use crate::service::rules::content;
use crate::service::rules::event::Command;
use crate::store::{
    Actor, Annotate, Annotation, Change, DeleteConversation, ERASED_USER, EraseAuthor,
    MemberChange, Origin, StoreError, Time, UserRecord,
};
use roomcast::{Io, Namespace};

/// `DELETE /api/v1/users/{id}`
#[derive(Debug)]
pub(crate) struct EraseUser {
    pub(crate) user: String,
    pub(crate) query: EraseQuery,
}

impl Command for EraseUser {
    const PERMISSION: Option<Permission> = Some(Permission::ApiUsers);
}

/// The query of an erasure.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "EraseUser")]
pub(crate) struct EraseQuery {
    /// The treatment of the user's messages. It must be the same in all requests of an erasure.
    #[serde(deserialize_with = "word")]
    pub(crate) messages: MessageErasure,
    /// The `cursor` of the previous request. Without it, the erasure begins.
    pub(crate) cursor: Option<String>,
}

/// The treatment of the messages of a user who is erased.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(crate) enum MessageErasure {
    /// The texts stay, without their author.
    Anonymize,
    /// The texts are removed as well, as when a message is deleted.
    Remove,
}

/// The progress of an erasure.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Erasure {
    /// Whether everything is erased.
    done: bool,
    /// Where the next request continues, until the erasure is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
    /// The number of records that this request erased or changed, by kind.
    erased: BTreeMap<&'static str, u64>,
    /// The number of sockets of this server that the request disconnected.
    disconnected: usize,
}

/// Erases a user, or a part of its data if there is much.
pub(crate) async fn erase_user(
    io: &Io,
    chat: &Chat,
    allowed: Allowed<EraseUser>,
) -> Result<Erasure, ServiceError> {
    let (by, EraseUser { user, query }) = allowed.into_parts();
    content::check_user_id("id", &user)?;
    if user == ERASED_USER {
        return Err(ServiceError::invalid("id", "stands for all erased users"));
    }
    if user == by.subject {
        return Err(ServiceError::Conflict("callers cannot erase themselves"));
    }
    let begin = Instant::now();
    let mut progress = Progress::of(query.cursor.as_deref())?;
    let mut erasure = Erasure {
        done: false,
        cursor: None,
        erased: BTreeMap::new(),
        disconnected: 0,
    };
    if query.cursor.is_none() {
        tracing::info!(by = by.subject, user, messages = ?query.messages, "erasing a user");
        // Access ends first, so that the user adds nothing to what is being erased.
        erasure.disconnected = chat.0.access.revoke_user(io, &user).await?;
        diagnosis::forget(io, &user).await;
    }
    let eraser = Eraser {
        chat,
        namespace: io.of("/"),
        user: &user,
        messages: query.messages,
        began: progress.began,
    };
    loop {
        let place = progress.place;
        let store = chat.store();
        let page = store.user_data(&user, &place, PAGE_BYTES).await?;
        for record in &page.records {
            *erasure.erased.entry(record.kind).or_default() += u64::from(!is_kept(record.kind));
        }
        // The order does not matter: each conversation has its own lane.
        stream::iter(page.records)
            .map(|record| eraser.erase(record))
            .buffer_unordered(CONCURRENT_CHANGES)
            .try_collect::<()>()
            .await?;
        let through = &page.through;
        store.erase_user_data(&user, &place, through).await?;
        let Some(next) = page.next else {
            tracing::info!(by = by.subject, user, "user erased");
            erasure.done = true;
            break;
        };
        progress.place = next;
        if begin.elapsed() >= BUDGET {
            erasure.cursor = Some(progress.cursor());
            break;
        }
    }
    erasure.erased.retain(|_, count| *count > 0);
    Ok(erasure)
}

/// Returns whether an erasure leaves records of this kind as they are.
fn is_kept(kind: &str) -> bool {
    kind == "revocation"
}

/// Erases records that clients must learn of, in the lane of their conversation, and those that
/// other users share.
struct Eraser<'a> {
    chat: &'a Chat,
    namespace: Namespace,
    user: &'a str,
    messages: MessageErasure,
    began: Time,
}

impl Eraser<'_> {
    async fn erase(&self, record: UserRecord) -> Result<(), ServiceError> {
        match record.kind {
            "status" => self.erase_status().await,
            "membership" => self.leave(uuid(&record.key)?).await,
            "reaction" => self.unreact(&record).await,
            "message" => self.erase_message(&record).await,
            "delivery" => self.edit_delivery(&record).await,
            // The statements of the section erase all other records.
            _ => Ok(()),
        }
    }

    async fn erase_status(&self) -> Result<(), ServiceError> {
        self.chat.erase_status(&self.namespace, self.user).await?;
        Ok(())
    }

    /// Removes a membership. The longest-standing member becomes the owner of a conversation of
    /// the user; a conversation without other members is deleted.
    async fn leave(&self, conversation_id: Uuid) -> Result<(), ServiceError> {
        let store = self.chat.store();
        for _ in 0..LEAVE_ATTEMPTS {
            let change = MemberChange {
                conversation_id,
                user_id: self.user.to_owned(),
                by: Actor {
                    user_id: self.user.to_owned(),
                    is_admin: true,
                },
                removes: true,
                limit: 0,
            };
            match store.change_member(change, Origin::default()).await? {
                Change::Done(_) | Change::Unchanged(_) | Change::Absent | Change::Denied => {
                    return Ok(());
                }
                Change::Conflict => {}
            }
            let deletion = DeleteConversation {
                conversation_id,
                by: Actor {
                    user_id: ERASED_USER.to_owned(),
                    is_admin: true,
                },
            };
            let sole_member = self.user.to_owned();
            let deleting =
                store.delete_conversation_without_others(deletion, sole_member, Origin::default());
            match deleting.await? {
                Change::Done(_) | Change::Unchanged(_) | Change::Absent | Change::Denied => {
                    return Ok(());
                }
                // A user has joined since the first change, and becomes the owner.
                Change::Conflict => {}
            }
        }
        Err(ServiceError::unavailable(BUSY))
    }

    /// Removes the user's events from a webhook delivery, and the user from the events of others.
    async fn edit_delivery(&self, record: &UserRecord) -> Result<(), ServiceError> {
        let body = record.body.as_ref().map_or("", |body| body.get());
        let erased =
            without_events(body, is_event_of(self.user)).map(|left| renamed(&left, self.user));
        self.replace_delivery(uuid(&record.key)?, erased).await
    }

    /// Replaces a webhook delivery. Deliveries from after the beginning report the erasure itself.
    async fn replace_delivery(&self, id: Uuid, body: Option<String>) -> Result<(), ServiceError> {
        let store = self.chat.store();
        store.edit_delivery(id, body, self.began).await?;
        Ok(())
    }

    async fn unreact(&self, record: &UserRecord) -> Result<(), ServiceError> {
        #[derive(Deserialize)]
        struct Reacted {
            emoji: String,
        }
        let Reacted { emoji } = read(record)?;
        let annotate = Annotate {
            message_id: uuid(&record.key)?,
            by: Actor {
                user_id: self.user.to_owned(),
                is_admin: true,
            },
            annotation: Annotation::EraseReaction(emoji),
        };
        let store = self.chat.store();
        store.annotate(annotate, Origin::default()).await?;
        Ok(())
    }

    async fn erase_message(&self, record: &UserRecord) -> Result<(), ServiceError> {
        /// The column, which has the list as JSON.
        #[derive(Deserialize)]
        struct Sent {
            mentions: Option<String>,
        }
        let message_id = uuid(&record.key)?;
        let Sent { mentions } = read(record)?;
        let mentions = mentions.and_then(|list| serde_json::from_str::<Vec<String>>(&list).ok());
        let store = self.chat.store();
        // The notifications quote the message. They are erased first, because nothing else names
        // them once the message is erased.
        if let Some(users) = mentions {
            if !users.is_empty() {
                let id = format!("\"mention:{message_id}\"");
                for (delivery, body) in store.deliveries_with(id.clone()).await? {
                    let erased = without_events(&body, |event| event.contains(&id));
                    self.replace_delivery(delivery, erased).await?;
                }
            }
            store.erase_mentions(message_id, users).await?;
        }
        let erase = EraseAuthor {
            message_id,
            user_id: self.user.to_owned(),
            removes_text: self.messages == MessageErasure::Remove,
        };
        store.erase_author(erase, Origin::default()).await?;
        Ok(())
    }
}

/// Returns the body of a webhook delivery without some of its events, or `None` if none is left.
pub(super) fn without_events(body: &str, is_removed: impl Fn(&str) -> bool) -> Option<String> {
    #[derive(Deserialize, Serialize)]
    struct Delivery {
        id: Box<RawValue>,
        node: Box<RawValue>,
        events: Vec<Box<RawValue>>,
    }
    let mut delivery: Delivery = serde_json::from_str(body).ok()?;
    delivery.events.retain(|event| !is_removed(event.get()));
    if delivery.events.is_empty() {
        return None;
    }
    serde_json::to_string(&delivery).ok()
}

/// Returns a function that finds the events of a user in a delivery.
pub(super) fn is_event_of(user: &str) -> impl Fn(&str) -> bool {
    let own = format!("\"userId\":{}", Value::from(user));
    move |event| event.contains(&own)
}

/// Returns a delivery in which the user is `erased` wherever a field names a user.
fn renamed(delivery: &str, user: &str) -> String {
    let Ok(mut delivery) = serde_json::from_str::<Value>(delivery) else {
        return delivery.to_owned();
    };
    rename(&mut delivery, user, false);
    delivery.to_string()
}

fn rename(value: &mut Value, user: &str, names_user: bool) {
    match value {
        Value::String(text) if names_user && *text == user => ERASED_USER.clone_into(text),
        Value::Array(items) => {
            for item in items {
                rename(item, user, names_user);
            }
        }
        Value::Object(fields) => {
            for (name, value) in fields {
                let ends = ["Id", "Ids", "By"].iter().any(|end| name.ends_with(end));
                let names_user = ends || ["by", "mentions", "users"].contains(&name.as_str());
                rename(value, user, names_user);
            }
        }
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn uuid(key: &str) -> Result<Uuid, ServiceError> {
    Uuid::try_parse(key).map_err(|_| StoreError::Failed.into())
}

fn read<'a, T: Deserialize<'a>>(record: &'a UserRecord) -> Result<T, ServiceError> {
    serde_json::from_str(record.data.get()).map_err(|_| StoreError::Failed.into())
}

/// Maximum attempts to leave a conversation whose members change concurrently.
const LEAVE_ATTEMPTS: u32 = 3;
/// The retry delay that the caller receives after the last attempt.
const BUSY: Duration = Duration::from_secs(1);
/// Maximum changes that wait to be stored and emitted at the same time.
const CONCURRENT_CHANGES: usize = 16;
/// The size of the records that are read at once.
const PAGE_BYTES: usize = 256 << 10;
/// The time after which a request ends, well before its timeout.
const BUDGET: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_named_like_a_word_is_renamed_only_where_a_field_names_a_user() {
        let delivery = r#"{"events":[{"event":"message","type":"message","userId":"message","mentions":["message","bob"],"data":{"pinnedBy":"message","content":"message"}}]}"#;
        let expected = delivery
            .replace(r#""userId":"message""#, r#""userId":"erased""#)
            .replace(r#"["message","bob"]"#, r#"["erased","bob"]"#)
            .replace(r#""pinnedBy":"message""#, r#""pinnedBy":"erased""#);
        let parsed = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        assert_eq!(parsed(&renamed(delivery, "message")), parsed(&expected));
    }
    use crate::auth::is_reserved;

    #[test]
    fn delivery_keeps_the_events_of_other_users() {
        let body = r#"{"id":"a","node":null,"events":[{"userId":"ann"},{"userId":"bob"}]}"#;
        let left = without_events(body, |event| event.contains("ann"));
        let expected = r#"{"id":"a","node":null,"events":[{"userId":"bob"}]}"#;
        assert_eq!(left.as_deref(), Some(expected));
        assert_eq!(without_events(body, |_| true), None);
        assert_eq!(without_events("no delivery", |_| false), None);
    }

    #[test]
    fn no_token_may_name_the_author_of_erased_messages() {
        assert!(is_reserved(ERASED_USER));
    }
}
