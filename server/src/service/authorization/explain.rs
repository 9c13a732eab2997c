//! Explains why a user may or may not send an event.
//!
//! The answers come from the functions that check the events themselves. This module only puts them
//! into words and contains no rules.

use std::{fmt, sync::Arc};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::service::{
    authorization::access::{Access, default_roles},
    authorization::allowed::Allowed,
    fault::ServiceError,
    rules::commands::{
        conversations::DELETE_CONVERSATION,
        invites::{CREATE_INVITE, REVOKE_INVITES},
        members::RemoveMember,
        messages::{ADD_REACTION, EDIT_MESSAGE, PIN_MESSAGE, REMOVE_REACTION, UNPIN_MESSAGE},
    },
    rules::event::{Command, EventPolicy, RoomRule},
    rules::policy,
};
use crate::{
    auth::{Permission, Principal, Revoked, is_guest, roles_of},
    store::{self, Actor, Authorship, Change, Edit, MemberChange, Membership, Time},
};
use roomcast::{Io, Socket};

/// The query of `GET /api/v1/explain`, and of the `explain` command.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExplainQuery {
    pub(crate) user: String,
    pub(crate) event: String,
    /// `conversation:ID`, or only the id; for events about channels `channel:NAME`.
    pub(crate) room: Option<String>,
    /// The message that the event is about; its author can matter.
    pub(crate) message: Option<Uuid>,
    /// The roles of the user, if they are not known. Only the `explain` command sets them.
    #[serde(skip)]
    pub(crate) roles: Vec<String>,
}

impl Command for ExplainQuery {
    const PERMISSION: Option<Permission> = Some(Permission::ApiExplain);
}

/// The decision about an event, with its reason.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Explanation {
    /// Whether the user may send the event. False if that depends on a room or a message that the
    /// question does not contain.
    pub(crate) allowed: bool,
    /// The rule that decides.
    pub(crate) rule: String,
    user: String,
    event: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    room: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<Uuid>,
    roles: Vec<String>,
    /// Where the roles come from.
    roles_from: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    permission: Option<&'static str>,
    /// The rate limit class of the event.
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<&'static str>,
    /// What the event does.
    #[serde(skip_serializing_if = "Option::is_none")]
    does: Option<&'static str>,
    /// The JSON Schema of the argument.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<schemars::Schema>,
}

/// Returns whether a user may send an event about a channel, and the rule that decides. The last
/// argument is whether the user has the permission of services to publish.
pub(crate) type ExplainChannel<'a> =
    &'a (dyn Fn(&Principal, &str, &str, bool) -> (bool, String) + Send + Sync);

impl Access {
    /// Explains whether a user may send an event, optionally about a room or a message.
    pub(crate) async fn explain(
        &self,
        io: &Io,
        channels: ExplainChannel<'_>,
        allowed: Allowed<ExplainQuery>,
    ) -> Result<Explanation, ServiceError> {
        let (_, query) = allowed.into_parts();
        self.why(Some(io), channels, query).await
    }

    /// Explains without an [`Allowed`] query, for callers that have the configuration and the
    /// store.
    pub(crate) async fn why(
        &self,
        io: Option<&Io>,
        channels: ExplainChannel<'_>,
        query: ExplainQuery,
    ) -> Result<Explanation, ServiceError> {
        let live = match io {
            Some(io) => live(io, &query.user),
            None => None,
        };
        let principal = match live {
            Some(principal) => (Principal::clone(&principal), "the user's connection"),
            None => self.offline(&query).await?,
        };
        self.judge(&principal.0, principal.1, channels, query).await
    }

    /// Returns the principal of a user who is not connected. It has the roles of the question, of
    /// the newest login, or the default role of tokens.
    async fn offline(
        &self,
        query: &ExplainQuery,
    ) -> Result<(Principal, &'static str), ServiceError> {
        let mut principal = Principal::new(query.user.clone());
        if is_guest(&query.user) {
            return Ok((Principal::guest(query.user.clone(), ""), "its id"));
        }
        if !query.roles.is_empty() {
            principal.roles.clone_from(&query.roles);
            return Ok((principal, "the question"));
        }
        let now = Time::now();
        let logins = self.0.store.logins_of(&query.user).await?;
        if let Some(login) = logins.into_iter().rfind(|login| login.expires_at > now) {
            principal.roles = login.roles;
            principal.data = login.data.map(Into::into);
            principal.session = Some(login.id_hash);
            return Ok((principal, "the user's newest session"));
        }
        principal.roles = default_roles();
        Ok((principal, "the default of tokens"))
    }

    async fn judge(
        &self,
        principal: &Principal,
        roles_from: &'static str,
        channels: ExplainChannel<'_>,
        query: ExplainQuery,
    ) -> Result<Explanation, ServiceError> {
        let inner = &self.0;
        let roles = roles_of(principal).map(str::to_owned).collect();
        let mut explanation = Explanation {
            allowed: false,
            rule: String::new(),
            user: query.user,
            event: query.event,
            room: query.room,
            message: query.message,
            roles,
            roles_from,
            does: None,
            permission: None,
            limit: None,
            payload: None,
        };
        // Revocations come first: a revoked user is disconnected regardless of roles.
        if let Some(revoked) = inner.revocations.covering(principal) {
            explanation.rule = match &revoked {
                Revoked::User(_) => "the user is revoked".into(),
                Revoked::Role(role) => format!("the role `{role}` is revoked"),
                Revoked::Token(_) => "the token is revoked".into(),
                Revoked::Login(_) => "the session is revoked".into(),
            };
            return Ok(explanation);
        }
        let Some(policy) = policy::find(&explanation.event) else {
            let events: Vec<_> = policy::events().map(|policy| policy.event).collect();
            explanation.rule = format!("no such event; there are {}", events.join(", "));
            return Ok(explanation);
        };
        explanation.does = Some(policy.does);
        explanation.payload = Some((policy.payload)());
        explanation.limit = Some(policy.class.as_str());
        let rule = match policy.permission {
            None => "every connected client may".into(),
            Some(permission) => {
                let needed = permission.as_str();
                explanation.permission = Some(needed);
                let granted = explanation.roles.iter().map(String::as_str);
                let Some(rule) = inner.roles.rule(granted, permission) else {
                    let granting = inner.roles.granting(permission).join(", ");
                    explanation.rule =
                        format!("none of the roles grants {needed}; these do: {granting}");
                    return Ok(explanation);
                };
                rule
            }
        };
        if let Some(permission) = policy.entry() {
            let granted = explanation.roles.iter().map(String::as_str);
            if inner.roles.rule(granted, permission).is_none() {
                let (needed, namespace) = (permission.as_str(), policy.namespace());
                explanation.rule =
                    format!("none of the roles grants {needed}, which {namespace} wants");
                return Ok(explanation);
            }
        }
        let room = explanation.room.as_deref();
        let channel = room.and_then(|room| room.strip_prefix("channel:"));
        let (allowed, why) = match channel {
            Some(channel) if policy.event.starts_with("channel:") => {
                let is_service = self.allows(principal, Permission::ChannelsPublish);
                let (allowed, why) = channels(principal, policy.event, channel, is_service);
                (allowed, Some(why))
            }
            Some(_) => (false, Some("the event is not about channels".to_owned())),
            None => {
                let about = About::of(room, explanation.message);
                self.about(principal, policy, about).await?
            }
        };
        explanation.allowed = allowed;
        explanation.rule = match why {
            Some(why) if allowed => format!("{rule}; and {why}"),
            Some(why) => why,
            None => rule.to_string(),
        };
        Ok(explanation)
    }

    /// Returns whether the rule of an event holds for its subject, and why.
    async fn about(
        &self,
        principal: &Principal,
        policy: &EventPolicy,
        about: About,
    ) -> Result<(bool, Option<String>), ServiceError> {
        let explained = policy.room.as_str();
        let explained =
            |allowed: bool, why: &str| Ok((allowed, Some(format!("{explained}: {why}"))));
        let (room, written) = match about {
            About::Nothing => {
                let needed = match policy.room {
                    RoomRule::Anyone | RoomRule::Oneself => return Ok((true, None)),
                    RoomRule::Author | RoomRule::Writer => {
                        "give the message, because its author decides"
                    }
                    RoomRule::Member | RoomRule::Owner | RoomRule::OwnerOrOneself => {
                        "give the room, because its members or its owner decide"
                    }
                };
                return explained(false, needed);
            }
            About::Unreadable => return explained(false, NO_CONVERSATION),
            About::Room(room) => (room, None),
            About::Message(room, id) => {
                let Some(written) = self.0.store.authorship(id).await? else {
                    return explained(false, "there is no such message");
                };
                if room.is_some_and(|room| room != written.conversation_id) {
                    return explained(false, "the message is in another conversation");
                }
                if needs_content(policy) && !Edit::is_possible(written.is_deleted) {
                    return explained(false, "the message is deleted");
                }
                (written.conversation_id, Some(written))
            }
        };
        if matches!(policy.room, RoomRule::Anyone | RoomRule::Oneself) {
            return Ok((true, None));
        }
        let actor = self.actor(principal);
        let store = &self.0.store;
        let found = if actor.is_admin && !matches!(policy.room, RoomRule::Member | RoomRule::Writer)
        {
            store.conversation(room).await?
        } else {
            store.membership(room, &principal.subject).await?
        };
        let Some(found) = found else {
            return explained(false, NO_CONVERSATION);
        };
        let (allowed, why) = match (policy.room, written) {
            (RoomRule::Member | RoomRule::Anyone | RoomRule::Oneself, _) => {
                (true, "the user is one".into())
            }
            (RoomRule::Author, Some(written)) => author(&actor, &written),
            (RoomRule::Author, None) if actor.is_admin => (true, MODERATES.into()),
            (RoomRule::Writer, Some(written)) => {
                let is_admin = false;
                author(&Actor { is_admin, ..actor }, &written)
            }
            (RoomRule::Author | RoomRule::Writer, None) => {
                let why = "only for the user's own messages: give the message";
                (false, why.into())
            }
            (RoomRule::Owner, _) => owner(&actor, policy, &found),
            (RoomRule::OwnerOrOneself, _) => self.removal(principal, actor, &found),
        };
        explained(allowed, &why)
    }

    /// Returns whether a user may remove members, and why.
    fn removal(&self, principal: &Principal, actor: Actor, found: &Membership) -> (bool, String) {
        let user = principal.subject.as_str();
        let owner = found.conversation.owner_id.as_deref();
        let is_admin = actor.is_admin;
        let mut change = MemberChange {
            conversation_id: found.conversation.id,
            user_id: String::new(),
            by: actor,
            removes: true,
            limit: 0,
        };
        let has = RemoveMember::permission(user, &change.user_id)
            .is_none_or(|permission| self.allows(principal, permission));
        let may_others = has && change.refused::<()>(owner, true).is_none();
        change.user_id = user.into();
        let may_oneself = change.refused::<()>(owner, true).is_none();
        let why = match (may_others, may_oneself) {
            (true, _) if is_admin => MODERATES,
            (true, _) => "the user is the owner",
            (false, true) => "the user may remove only itself",
            (false, false) => "the user is not a member",
        };
        (may_others || may_oneself, why.into())
    }
}

/// Returns whether an actor may change a message, based on its author.
fn author(actor: &Actor, written: &Authorship) -> (bool, String) {
    let author = &written.user_id;
    let allowed = actor.refused::<()>(Some(author), true).is_none();
    let why = match allowed {
        _ if *author == actor.user_id => "the user wrote it".into(),
        true => format!("`{author}` wrote it, and {MODERATES}"),
        false => format!("`{author}` wrote it"),
    };
    (allowed, why)
}

/// Returns whether an actor may change a conversation, based on its owner.
fn owner(actor: &Actor, policy: &EventPolicy, found: &Membership) -> (bool, String) {
    let owner = found.conversation.owner_id.as_deref();
    let refused = if policy.event == DELETE_CONVERSATION.policy().event {
        let deletion = store::DeleteConversation {
            conversation_id: found.conversation.id,
            by: actor.clone(),
        };
        deletion.refused(owner, found.is_open, true)
    } else if invites(policy) {
        actor.invitations_refused(found, true)
    } else {
        actor.refused::<()>(owner, true)
    };
    let why = match refused {
        Some(Change::Conflict) => {
            "a conversation that is open to everyone cannot be deleted and needs no invitations"
        }
        Some(_) => "the user is not",
        None if actor.is_admin => MODERATES,
        None => "the user is that",
    };
    (refused.is_none(), why.into())
}

/// Returns whether an event requires a message that is not deleted.
fn needs_content(policy: &EventPolicy) -> bool {
    let events = [
        EDIT_MESSAGE.policy().event,
        ADD_REACTION.policy().event,
        REMOVE_REACTION.policy().event,
        PIN_MESSAGE.policy().event,
        UNPIN_MESSAGE.policy().event,
    ];
    events.contains(&policy.event)
}

/// Returns whether an event is about invitations.
fn invites(policy: &EventPolicy) -> bool {
    [CREATE_INVITE.policy().event, REVOKE_INVITES.policy().event].contains(&policy.event)
}

/// The subject of a question.
enum About {
    Nothing,
    /// A room that does not belong to a conversation.
    Unreadable,
    Room(Uuid),
    /// A message, in this room if one is specified.
    Message(Option<Uuid>, Uuid),
}

impl About {
    fn of(room: Option<&str>, message: Option<Uuid>) -> Self {
        let id = |room: &str| room.strip_prefix("conversation:").unwrap_or(room).parse();
        match (room.map(id), message) {
            (Some(Err(_)), _) => Self::Unreadable,
            (Some(Ok(room)), None) => Self::Room(room),
            (Some(Ok(room)), Some(message)) => Self::Message(Some(room), message),
            (None, Some(message)) => Self::Message(None, message),
            (None, None) => Self::Nothing,
        }
    }
}

/// Returns the principal of a connected user.
fn live(io: &Io, user: &str) -> Option<Arc<Principal>> {
    let sockets = io.of("/").sockets();
    let mut principals = sockets.iter().map(Socket::principal);
    principals.find(|principal| principal.subject == user)
}

/// Formats the explanation as text for people.
impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let answer = if self.allowed { "allowed" } else { "refused" };
        writeln!(f, "{answer}: {}", self.rule)?;
        writeln!(f, "user:    {}", self.user)?;
        writeln!(
            f,
            "roles:   {} (from {})",
            self.roles.join(", "),
            self.roles_from
        )?;
        writeln!(f, "event:   {}", self.event)?;
        if let Some(does) = self.does {
            writeln!(f, "does:    {does}")?;
        }
        if let Some(room) = &self.room {
            writeln!(f, "room:    {room}")?;
        }
        if let Some(message) = &self.message {
            writeln!(f, "message: {message}")?;
        }
        if let Some(permission) = self.permission {
            writeln!(f, "needs:   {permission}")?;
        }
        if let Some(limit) = self.limit {
            writeln!(f, "limit:   {limit}")?;
        }
        Ok(())
    }
}

const MODERATES: &str = "the user has chat:moderate";
const NO_CONVERSATION: &str = "the user is not a member, or the conversation does not exist";
