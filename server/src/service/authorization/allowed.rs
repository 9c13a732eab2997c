//! The proof that somebody may do what they ask for.

use std::sync::Arc;

use crate::auth::Principal;
use crate::service::authorization::access::Access;
use crate::service::fault::ServiceError;
use crate::service::rules::event::Command;

/// A command whose sender may give it. [`Access::allow`] alone makes it, and services take nothing else, so
/// that neither the gateway nor the HTTP API can forget the check.
#[derive(Debug)]
pub(crate) struct Allowed<C> {
    by: Arc<Principal>,
    command: C,
}

impl<C> Allowed<C> {
    /// The command.
    pub(in crate::service) fn command(&self) -> &C {
        &self.command
    }

    /// The sender of the command, and the command.
    pub(in crate::service) fn into_parts(self) -> (Arc<Principal>, C) {
        (self.by, self.command)
    }
}

impl Access {
    /// Whether a principal may give a command.
    ///
    /// # Errors
    ///
    /// [`ServiceError::Denied`] if none of its roles grants the command's permission, unless the command is about the principal.
    pub(crate) fn allow<C: Command>(
        &self,
        by: Arc<Principal>,
        command: C,
    ) -> Result<Allowed<C>, ServiceError> {
        if let Some(permission) = C::PERMISSION
            && !command.is_about(&by)
        {
            self.require(&by, permission)?;
        }
        Ok(Allowed { by, command })
    }
}
