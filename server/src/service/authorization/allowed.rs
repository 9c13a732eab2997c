//! The proof that a principal may execute a command.

use std::sync::Arc;

use crate::auth::Principal;
use crate::service::authorization::access::Access;
use crate::service::fault::ServiceError;
use crate::service::rules::event::Command;

/// A command whose sender is authorized. Only [`Access::allow`] creates it and services accept
/// nothing else, so neither the gateway nor the HTTP API can skip the check.
#[derive(Debug)]
pub(crate) struct Allowed<C> {
    by: Arc<Principal>,
    command: C,
}

impl<C> Allowed<C> {
    /// Returns the sender of the command.
    pub(in crate::service) fn by(&self) -> &Arc<Principal> {
        &self.by
    }

    /// Returns the command.
    pub(in crate::service) fn command(&self) -> &C {
        &self.command
    }

    /// Returns the sender of the command, and the command.
    pub(in crate::service) fn into_parts(self) -> (Arc<Principal>, C) {
        (self.by, self.command)
    }
}

impl Access {
    /// Checks whether a principal may execute a command.
    ///
    /// # Errors
    ///
    /// Returns [`ServiceError::Denied`] if no role of the principal grants the command's
    /// permission, unless the command is about the principal.
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
