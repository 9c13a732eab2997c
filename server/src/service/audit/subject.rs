//! What an act is about, and its state before and after the act.

use serde_json::{Value, json};
use uuid::Uuid;

use super::AuditInner;
use super::masking::masked;
use crate::auth::secret_hash;
use crate::service::rules::rooms::{RoomKind, room_named};
use crate::store::StoreError;

/// The stored object that an act changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    Conversation(Uuid),
    Message(Uuid),
    /// A login session, by the hash of its id.
    Login(String),
    Block(Uuid),
    /// The current entry of a journal's key.
    Entry(String, String),
}

/// Returns the object of an HTTP operation by the path of its route, and the path as it is
/// recorded.
pub(crate) fn of_path(
    route: &str,
    parameters: &[(String, String)],
) -> (Option<String>, Option<Subject>) {
    let is_login = route.contains("/sessions/{id}");
    let mut path = String::new();
    for segment in route.split('/').filter(|segment| !segment.is_empty()) {
        path.push('/');
        let name = segment.strip_prefix('{').and_then(|s| s.strip_suffix('}'));
        match name.and_then(|name| value(parameters, name)) {
            // The id of a login is a secret. Its hash identifies the row.
            Some(id) if is_login => path.push_str(&secret_hash(id)),
            Some(text) => path.push_str(text),
            None => path.push_str(segment),
        }
    }
    (Some(path), subject(route, parameters))
}

fn value<'a>(parameters: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let found = parameters.iter().find(|(known, _)| known == name);
    found.map(|(_, value)| value.as_str())
}

fn subject(route: &str, parameters: &[(String, String)]) -> Option<Subject> {
    let value = |name: &str| value(parameters, name);
    let id = value("id");
    let uuid = || id.and_then(|id| Uuid::try_parse(id).ok());
    let of_user = |kind: RoomKind, key: &'static str| {
        let journal = room_named(kind.prefix(), id?).as_str().to_owned();
        Some(Subject::Entry(journal, value(key)?.to_owned()))
    };
    let (kind, rest) = route.trim_start_matches('/').split_once('/')?;
    match kind {
        "conversations" => uuid().map(Subject::Conversation),
        "messages" => uuid().map(Subject::Message),
        "sessions" => id.map(|id| Subject::Login(secret_hash(id))),
        "blocks" => uuid().map(Subject::Block),
        "signals" => {
            let journal = RoomKind::Signals.prefix().to_owned();
            id.map(|id| Subject::Entry(journal, id.to_owned()))
        }
        "prices" => value("symbol").map(|key| Subject::Entry("prices".into(), key.to_owned())),
        "users" if rest.contains("trades") => of_user(RoomKind::Trades, "tradeId"),
        "users" if rest.contains("notifications") => {
            of_user(RoomKind::Notifications, "notificationId")
        }
        _ => None,
    }
}

impl AuditInner {
    /// Returns the state of an object without secrets and texts, or null if it does not exist.
    pub(super) async fn state(&self, subject: &Subject) -> Result<Value, StoreError> {
        let store = &self.store;
        let state = match subject {
            Subject::Conversation(id) => match store.conversation(*id).await? {
                Some(found) => {
                    let conversation = found.conversation;
                    let state = json!({
                        "title": conversation.title,
                        "ownerId": conversation.owner_id,
                        "memberCount": conversation.member_ids.len(),
                        "memberIds": conversation.member_ids,
                        "isOpen": found.is_open,
                        "lastSeq": found.last_seq,
                        "invites": store.count_invites(*id).await?,
                    });
                    Some(masked(&state, true))
                }
                None => None,
            },
            Subject::Message(id) => match store.authorship(*id).await? {
                Some(found) => {
                    let (pinned_by, pinned_at) = store.pinned(*id).await?.unzip();
                    Some(json!({
                        "conversationId": found.conversation_id,
                        "authorId": found.user_id,
                        "isDeleted": found.is_deleted,
                        "version": store.versions(*id).await?.len() + 1,
                        "pinnedBy": pinned_by,
                        "pinnedAt": pinned_at,
                    }))
                }
                None => None,
            },
            Subject::Login(hash) => store.login(hash).await?.map(|login| {
                json!({
                    "userId": login.user_id,
                    "roles": login.roles,
                    "createdAt": login.created_at,
                    "expiresAt": login.expires_at,
                })
            }),
            Subject::Block(id) => {
                let blocks = self.server.get().and_then(|(_, blocks)| blocks.as_ref());
                let block = blocks.and_then(|blocks| blocks.find(*id));
                block.and_then(|block| serde_json::to_value(block).ok())
            }
            Subject::Entry(journal, key) => {
                let entry = store.journal_entry(journal, key).await?;
                entry.map(|entry| {
                    let body: Value = serde_json::from_str(&entry.body).unwrap_or_default();
                    let state = json!({
                        "published": body,
                        "revision": entry.revision,
                        "isOpen": entry.is_open,
                    });
                    masked(&state, false)
                })
            }
        };
        Ok(state.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(route: &str, values: &[(&str, &str)]) -> (String, Option<Subject>) {
        let values = values.iter();
        let values = values.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let (path, subject) = of_path(route, &values.collect::<Vec<_>>());
        (path.unwrap(), subject)
    }

    #[test]
    fn paths_name_the_object_of_an_act_without_secrets() {
        let id = Uuid::from_u128(7);
        let text = id.to_string();
        let (shown, found) = path(
            "/conversations/{id}/members/{userId}",
            &[("id", &text), ("userId", "ann")],
        );
        assert_eq!(shown, format!("/conversations/{id}/members/ann"));
        assert_eq!(found, Some(Subject::Conversation(id)));
        let (shown, found) = path("/sessions/{id}", &[("id", "a secret")]);
        assert_eq!(shown, format!("/sessions/{}", secret_hash("a secret")));
        assert_eq!(found, Some(Subject::Login(secret_hash("a secret"))));
        let trade = [("id", "ann"), ("tradeId", "t")];
        let (_, found) = path("/users/{id}/trades/{tradeId}", &trade);
        assert_eq!(found, Some(Subject::Entry("trades:ann".into(), "t".into())));
        assert_eq!(path("/users/{id}/sockets", &[("id", "ann")]).1, None);
        assert_eq!(path("/emit", &[]), ("/emit".into(), None));
    }
}
