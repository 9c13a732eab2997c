//! The sockets and conversations of a user on all servers.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use crate::auth::Permission;
use crate::service::api::nodes::requests::{
    NodeAnswer, NodeRequest, UnansweredServers, request_all,
};
use crate::service::authorization::Allowed;
use crate::service::fault::ServiceError;
use crate::service::rules::content;
use crate::service::rules::event::Command;
use roomcast::Io;

/// `GET /api/v1/users/{user}/presence`
#[derive(Debug)]
pub(crate) struct FindUser {
    pub(crate) user: String,
}

impl Command for FindUser {
    const PERMISSION: Option<Permission> = Some(Permission::ApiPresence);
}

/// The sockets and conversations of a user.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UserPresence {
    user_id: String,
    /// The number of sockets, whether in a conversation or not.
    connections: usize,
    /// The conversations that they are in, ordered by id.
    conversations: BTreeSet<Uuid>,
    /// Servers that have not answered.
    missing: usize,
}

/// Returns the sockets and conversations of a user.
pub(crate) async fn find_user(
    io: &Io,
    allowed: Allowed<FindUser>,
) -> Result<UserPresence, ServiceError> {
    let (_, FindUser { user }) = allowed.into_parts();
    content::check_user_id("userId", &user)?;
    let (answers, UnansweredServers(missing)) =
        request_all(io, &NodeRequest::User(user.clone())).await;
    let mut presence = UserPresence {
        user_id: user,
        connections: 0,
        conversations: BTreeSet::new(),
        missing,
    };
    for answer in answers {
        if let NodeAnswer::User(here) = answer {
            presence.connections += here.connections;
            presence.conversations.extend(here.conversations);
        }
    }
    Ok(presence)
}
