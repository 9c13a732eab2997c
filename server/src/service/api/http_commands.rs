//! The commands that both clients and the HTTP API execute, and the permissions needed over HTTP.

use std::sync::Arc;

use crate::auth::{Permission, Principal, authenticator::MAX_NAME, is_name};
use crate::service::authorization::{Access, Allowed};
use crate::service::fault::ServiceError;
use crate::service::rules::commands::attendance::SetStatus;
use crate::service::rules::commands::conversations::{
    CreateConversation, DeleteConversation, ListConversations, RenameConversation,
};
use crate::service::rules::commands::members::{AddMember, RemoveMember};
use crate::service::rules::commands::messages::{
    AddReaction, DeleteMessage, EditMessage, PinMessage, RemoveReaction, SendMessage, UnpinMessage,
};
use crate::service::rules::commands::streams::BeginMessage;
use crate::service::rules::content;
use crate::service::rules::event::Command;

/// A client command that services can execute over HTTP, on behalf of users or as themselves.
pub(crate) trait HttpCommand: Command {
    /// The permission required in addition to that of the command.
    const SERVED: Permission;
}

macro_rules! served {
    ($($permission:ident: $($command:ty),+;)+) => {
        $($(impl HttpCommand for $command {
            const SERVED: Permission = Permission::$permission;
        })+)+
    };
}

served! {
    ApiConversations: CreateConversation, RenameConversation, DeleteConversation, ListConversations,
        AddMember, RemoveMember;
    ApiMessages: SendMessage, BeginMessage, EditMessage, DeleteMessage, AddReaction, RemoveReaction, PinMessage,
        UnpinMessage;
    ApiPresence: SetStatus;
}

/// The user on whose behalf a service acts.
#[derive(Clone, Debug)]
pub(crate) struct OnBehalfOf {
    /// The request field with the id, for errors.
    pub(crate) field: &'static str,
    pub(crate) user_id: String,
    /// Default: the id.
    pub(crate) name: Option<String>,
}

impl Access {
    /// Checks whether a service may execute a command, optionally on behalf of a user.
    ///
    /// Changes carry the user's name, but only the permissions of the service count.
    ///
    /// # Errors
    ///
    /// [`ServiceError::Denied`] if the service lacks the permission for the HTTP API or that of the
    /// command. [`ServiceError::Invalid`] if the id or name is not valid for a user.
    pub(crate) fn allow_served<C: HttpCommand>(
        &self,
        by: Arc<Principal>,
        in_name: Option<OnBehalfOf>,
        command: C,
    ) -> Result<Allowed<C>, ServiceError> {
        self.require(&by, C::SERVED)?;
        let Some(OnBehalfOf {
            field,
            user_id,
            name,
        }) = in_name
        else {
            return self.allow(by, command);
        };
        content::check_user_id(field, &user_id)?;
        if name.as_ref().is_some_and(|name| !is_name(name, MAX_NAME)) {
            let problem = "must have 1 to 256 characters, none of them control or invisible";
            return Err(ServiceError::invalid("userName", problem));
        }
        let mut user = Principal::new(user_id);
        if let Some(name) = name {
            user.name = name;
        }
        // The user's own roles are not known here, and a service must not gain permissions by
        // naming an admin.
        user.roles.clone_from(&by.roles);
        self.allow(Arc::new(user), command)
    }
}
