//! Who a client is, with a limit on how often it may offer new credentials.

use std::sync::Arc;

use roomcast_protocol::socket::Args;

use super::limits::only_argument;
use crate::{
    auth::{Principal, RefreshOffer, authenticator::Authenticator},
    limit::Users,
    service::{Chat, Object, ServiceError, policy},
};
use roomcast::{Authenticate, Connect, Refusal, Renewal, Socket};

/// An authenticator whose `auth:refresh` counts like any other event: a signature costs more than
/// most of them.
pub(super) struct Limited {
    pub(super) authenticator: Authenticator,
    pub(super) users: Arc<Users>,
    pub(super) chat: Chat,
}

impl Authenticate for Limited {
    async fn authenticate(&self, connect: Connect) -> Result<Principal, Refusal> {
        Authenticate::authenticate(&self.authenticator, connect).await
    }

    async fn recover(
        &self,
        connect: Connect,
        previous: Arc<Principal>,
    ) -> Result<Principal, Refusal> {
        Authenticate::recover(&self.authenticator, connect, previous).await
    }

    fn revalidate(&self, principal: &Principal) -> Result<(), Refusal> {
        Authenticate::revalidate(&self.authenticator, principal)
    }

    fn renewal(&self) -> Option<Renewal> {
        Authenticate::renewal(&self.authenticator)
    }

    async fn refresh(&self, current: Arc<Principal>, offer: Args) -> Result<Principal, Refusal> {
        let class = policy::REFRESH.class.into();
        self.users
            .check(class, &current.subject)
            .map_err(|retry_after| ServiceError::Limited { retry_after })?;
        // A derived type takes a list of its fields as well, and the authenticator the first argument.
        only_argument::<Option<Object<RefreshOffer>>>(&offer)?;
        Authenticate::refresh(&self.authenticator, current, offer).await
    }

    fn refreshed(&self, socket: &Socket) {
        self.chat.reconsider(socket);
    }
}
