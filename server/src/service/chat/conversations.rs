//! Creates, renames, deletes and lists conversations.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::auth::Permission;
use crate::service::authorization::Allowed;
use crate::service::chat::handle::{Chat, NO_CONVERSATION, denied, origin};
use crate::service::chat::sequencer::delivery::emit_created;
use crate::service::fault::ServiceError;
use crate::service::rules::bounds::TITLE_CHARS;
use crate::service::rules::commands::conversations::{
    Changed, CreateConversation, DeleteConversation, ListConversations, RenameConversation,
};
use crate::service::rules::commands::form::whole_in_query;
use crate::service::rules::content::{self, Beginning};
use crate::service::rules::event::Command;
use crate::store::{
    self, Change, Conversation, ConversationSummary, DeletedConversation, InvalidCursor, List,
    NewConversation, Rename,
};
use roomcast::{Namespace, SocketId};

/// `GET /api/v1/conversations/{id}`
#[derive(Debug)]
pub(crate) struct ReadConversation {
    pub(crate) id: Uuid,
}

impl Command for ReadConversation {
    const PERMISSION: Option<Permission> = Some(Permission::ApiConversations);
}

/// A conversation as other services see it.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FoundConversation {
    conversation: Conversation,
    /// The `seq` of its newest message, or 0 if it has none.
    last_seq: u64,
    /// Whether every user counts as a member.
    open: bool,
}

/// `GET /api/v1/conversations`
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FindConversations {
    /// Only conversations whose title, or a word of it, begins with this: 1 to 200 characters in
    /// any case. The server checks at most 2,000 titles for a page, so a page can have few
    /// conversations, or none, although there are more.
    #[schemars(length(min = 1, max = 200))]
    pub(crate) title: Option<String>,
    /// Only the conversations with these ids, separated by commas, at most 100. Not with `title` or
    /// `cursor`.
    pub(crate) ids: Option<String>,
    /// The `cursor` of the previous page. Default: the first page.
    pub(crate) cursor: Option<Uuid>,
    /// 1 to 200. Default 50.
    #[schemars(range(min = 1, max = 200))]
    #[serde(default, deserialize_with = "whole_in_query")]
    pub(crate) limit: Option<usize>,
}

impl Command for FindConversations {
    const PERMISSION: Option<Permission> = Some(Permission::ApiConversations);
}

/// A page of conversations, in the order of their ids.
#[derive(Debug, Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ConversationList {
    conversations: Vec<ConversationSummary>,
    /// The start of the next page, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<Uuid>,
    /// Whether there are more.
    has_more: bool,
}

impl Chat {
    /// Lists the conversations of all users, or those with certain titles or ids.
    pub(crate) async fn find_conversations(
        &self,
        allowed: Allowed<FindConversations>,
    ) -> Result<ConversationList, ServiceError> {
        let (_, command) = allowed.into_parts();
        let limit = content::page_limit(command.limit)?;
        let store = &self.0.store;
        if let Some(ids) = &command.ids {
            // A schema cannot specify that query parameters exclude each other, so this is not an
            // invalid field.
            if command.title.is_some() || command.cursor.is_some() {
                return Err(ServiceError::Conflict("ids excludes title and cursor"));
            }
            let parsed: Result<Vec<Uuid>, _> = ids.split(',').map(str::parse).collect();
            let ids = parsed.ok().filter(|ids| ids.len() <= MAX_IDS);
            let problem = || ServiceError::invalid("ids", format!("must be 1 to {MAX_IDS} UUIDs"));
            return Ok(ConversationList {
                conversations: store
                    .conversation_summaries(ids.ok_or_else(problem)?)
                    .await?,
                ..ConversationList::default()
            });
        }
        let search = command.title.as_deref().map(str::trim);
        if search.is_some_and(|title| title.is_empty() || title.chars().count() > TITLE_CHARS) {
            let problem = format!("must have 1 to {TITLE_CHARS} characters");
            return Err(ServiceError::invalid("title", problem));
        }
        let search = search.map(Beginning::new);
        let checked = if search.is_some() { MAX_CHECKED } else { limit };
        let mut titles = store
            .conversation_titles(command.cursor, checked + 1)
            .await?;
        let mut has_more = titles.len() > checked;
        titles.truncate(checked);
        let (mut ids, mut end) = (Vec::new(), None);
        for (at, (id, title)) in titles.iter().enumerate() {
            end = Some(*id);
            let matches = |search: &Beginning| search.begins_a_word(title.as_deref().unwrap_or(""));
            if search.as_ref().is_none_or(matches) {
                ids.push(*id);
            }
            if ids.len() == limit {
                has_more |= at + 1 < titles.len();
                break;
            }
        }
        Ok(ConversationList {
            conversations: store.conversation_summaries(ids).await?,
            cursor: end.filter(|_| has_more),
            has_more,
        })
    }

    /// Creates a conversation owned by the user, and notifies its members.
    pub(crate) async fn create_conversation(
        &self,
        allowed: Allowed<CreateConversation>,
        namespace: &Namespace,
        from: Option<SocketId>,
    ) -> Result<Changed, ServiceError> {
        self.create_as(allowed, namespace, from, Uuid::new_v4())
            .await
    }

    /// Creates a conversation under a given id, so that a repeated request creates it once.
    ///
    /// If a conversation with that id exists, it is returned unchanged.
    pub(crate) async fn create_as(
        &self,
        allowed: Allowed<CreateConversation>,
        namespace: &Namespace,
        from: Option<SocketId>,
        id: Uuid,
    ) -> Result<Changed, ServiceError> {
        let (by, command) = allowed.into_parts();
        if let Some(title) = &command.title {
            content::check_title(title)?;
        }
        let most = self.0.limits.members;
        if command.member_ids.len() > most {
            return Err(ServiceError::invalid(
                "memberIds",
                format!("has more than {most} members"),
            ));
        }
        for (place, user) in command.member_ids.iter().enumerate() {
            content::check_user_id(format_args!("memberIds[{place}]"), user)?;
        }
        let new = NewConversation {
            id,
            title: command.title,
            owner_id: Some(by.subject.clone()),
            member_ids: command.member_ids,
            is_open: false,
        };
        // Members are notified here, and at other servers by the feed. The creation is registered
        // before the row is stored, because the feed may return the conversation before the store
        // answers.
        let pending = self
            .announced()
            .begin_creation(new.id, |conversation: &Conversation| {
                let all = namespace.local();
                let others = match from {
                    Some(socket) => all.except(socket),
                    None => all,
                };
                emit_created(others, conversation);
            });
        // If this future is dropped or fails here, `pending` is dropped with it and leaves the
        // notification to the feed.
        let conversation = self.0.store.insert_conversation(new).await?;
        pending.complete(&conversation);
        Ok(Changed { conversation })
    }

    /// Renames a conversation. Only the owner and admins may.
    pub(crate) async fn rename_conversation(
        &self,
        allowed: Allowed<RenameConversation>,
        from: Option<SocketId>,
    ) -> Result<Changed, ServiceError> {
        let (by, command) = allowed.into_parts();
        content::check_title(&command.title)?;
        let rename = Rename {
            conversation_id: command.conversation_id,
            title: command.title,
            by: self.actor(&by),
        };
        let renamed = self.0.store.rename_conversation(rename, origin(from));
        match renamed.await? {
            Change::Done(conversation) | Change::Unchanged(conversation) => {
                Ok(Changed { conversation })
            }
            Change::Denied => Err(denied(&by, "only its owner renames a conversation")),
            Change::Absent | Change::Conflict => Err(NO_CONVERSATION),
        }
    }

    /// Deletes a conversation with its contents. Only the owner and admins may.
    ///
    /// A repeated deletion returns the same answer as the first.
    pub(crate) async fn delete_conversation(
        &self,
        allowed: Allowed<DeleteConversation>,
        from: Option<SocketId>,
    ) -> Result<DeletedConversation, ServiceError> {
        let (by, DeleteConversation { conversation_id }) = allowed.into_parts();
        let deletion = store::DeleteConversation {
            conversation_id,
            by: self.actor(&by),
        };
        let deleted = self.0.store.delete_conversation(deletion, origin(from));
        match deleted.await? {
            Change::Done(deleted) => {
                roomcast::throttled_log!(info, user = by.subject, conversation = %conversation_id, "conversation deleted");
                Ok(deleted)
            }
            Change::Unchanged(deleted) => Ok(deleted),
            Change::Absent => Err(NO_CONVERSATION),
            Change::Denied => Err(denied(&by, "only its owner deletes a conversation")),
            Change::Conflict => Err(ServiceError::Conflict(
                "a conversation that is open to everyone cannot be deleted",
            )),
        }
    }

    /// Returns a conversation and the number of its newest message, for other services.
    pub(crate) async fn conversation(
        &self,
        allowed: Allowed<ReadConversation>,
    ) -> Result<FoundConversation, ServiceError> {
        let (_, ReadConversation { id }) = allowed.into_parts();
        let found = self
            .0
            .store
            .conversation(id)
            .await?
            .ok_or(NO_CONVERSATION)?;
        Ok(FoundConversation {
            conversation: found.conversation,
            last_seq: found.last_seq,
            open: found.is_open,
        })
    }

    /// Lists the conversations of a user, with the numbers of unread messages and the newest
    /// messages.
    pub(crate) async fn conversations(
        &self,
        allowed: Allowed<ListConversations>,
    ) -> Result<List, ServiceError> {
        let (by, command) = allowed.into_parts();
        let limit = self.page_limit(command.limit)?;
        let before = match command.cursor.as_deref().map(str::parse) {
            None => None,
            Some(Ok(cursor)) => Some(cursor),
            Some(Err(InvalidCursor)) => {
                return Err(ServiceError::invalid(
                    "cursor",
                    "is not a cursor of this server",
                ));
            }
        };
        let list = self.0.store.conversations(&by.subject, before, limit);
        let mut list = list.await?;
        for listed in &mut list.conversations {
            if let Some(last) = &mut listed.last_message {
                self.0.rules.show_quote(&mut last.quote);
            }
        }
        Ok(list)
    }
}

/// Maximum number of ids in a request.
const MAX_IDS: usize = 100;
/// Maximum number of titles that are checked for a page of a search.
const MAX_CHECKED: usize = 2000;
