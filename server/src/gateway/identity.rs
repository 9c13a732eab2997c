//! The identity of clients: authentication, connection limits, and the event `session`.

use std::{sync::Arc, time::Duration};

use roomcast_protocol::socket::Args;

use super::admin_ui::AdminUi;
use super::catalogue::{Catalogue, only_argument};
use super::{diagnosed, limits};
use crate::{
    auth::{Principal, RefreshOffer, authenticator::Authenticator},
    limit::Users,
    service::{
        Access, Argument, Channels, Chat, ServiceError, Subscriptions,
        emissions::identity::{ERROR, ErrorEvent, Identity, SESSION},
        identity::REFRESH,
    },
    store::Time,
};
use roomcast::{
    Authenticate, Connect, Event, Refusal, Socket, State, handler::Renewal, internal::RetryAfter,
};

/// Registers the authentication and the connection limits.
pub(super) fn register(
    catalogue: &mut Catalogue,
    authenticator: Authenticator,
    users: Arc<Users>,
    (channels, chat, subscriptions): (Channels, Chat, Subscriptions),
    admin_ui: Option<AdminUi>,
) {
    catalogue.mark_library_handled(&REFRESH);
    catalogue.namespace(|namespace| {
        namespace
            .authenticate(Limited {
                authenticator,
                users,
                channels,
                chat,
                subscriptions,
                admin_ui,
            })
            .middleware(async |connect: Connect| {
                let user = &connect.principal().subject;
                let users = connect.state::<Users>();
                if !users.may_connect(user) {
                    let refusal = too_many().because(format!("{user} has too many connections"));
                    return Err(diagnosed::limited(&connect, user, refusal));
                }
                if connect.data::<ChargedJoin>().is_some() {
                    return Ok(());
                }
                limits::join(users, user)
                    .map_err(|refusal| diagnosed::limited(&connect, user, refusal))
            })
            .on_connect(async |event: Event, users: State<Users>| {
                if !limits::enter(&users, &event.socket) {
                    // Several concurrent connections of the user have passed the middleware.
                    ERROR.emit_to(&event.socket, &TOO_MANY);
                    event.socket.disconnect();
                }
            })
            .on("disconnect", async |event: Event, users: State<Users>| {
                limits::leave(&users, &event.socket);
            })
    });
}

/// Registers the event `session`, which is sent after all other connection handlers.
pub(super) fn greet(catalogue: &mut Catalogue, access: Access) {
    catalogue.namespace(|namespace| {
        namespace.on_connect(move |event: Event, chat: State<Chat>| {
            let access = access.clone();
            async move {
                let principal = event.principal();
                let status = chat.status_at_connect(&principal.subject).await;
                let identity = Identity {
                    user_id: &principal.subject,
                    name: &principal.name,
                    roles: &principal.roles,
                    permissions: &access.permissions(&principal),
                    guest: principal.guest,
                    expires_at: principal.expires_at.map(Time::from),
                    status,
                };
                SESSION.emit_to(&event.socket, &identity);
            }
        })
    });
}

/// Marks a join that [`Limited::recover`] has charged to its user, for the middleware.
struct ChargedJoin;

/// An authenticator with a rate limit on `auth:refresh`, because verifying a signature costs more
/// than most events, and on recoveries.
struct Limited {
    authenticator: Authenticator,
    users: Arc<Users>,
    channels: Channels,
    chat: Chat,
    subscriptions: Subscriptions,
    admin_ui: Option<AdminUi>,
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
        let recovered = Authenticate::recover(&self.authenticator, connect.clone(), previous);
        let principal = recovered.await?;
        // The middleware charges a join, but a recovered client skips it.
        limits::join(&self.users, &principal.subject)
            .map_err(|refusal| diagnosed::limited(&connect, &principal.subject, refusal))?;
        connect.set_data(ChargedJoin);
        Ok(principal)
    }

    fn rights(&self, principal: &Principal) -> Option<String> {
        self.channels.claims_of(principal)
    }

    fn revalidate(&self, principal: &Principal) -> Result<(), Refusal> {
        Authenticate::revalidate(&self.authenticator, principal)
    }

    fn renewal(&self) -> Option<Renewal> {
        Authenticate::renewal(&self.authenticator)
    }

    async fn refresh(&self, current: Arc<Principal>, offer: Args) -> Result<Principal, Refusal> {
        refresh(&self.authenticator, &self.users, current, offer).await
    }

    fn refreshed(&self, socket: &Socket) {
        self.chat.recheck_permissions(socket);
        self.subscriptions.recheck_permissions(socket);
        if let Some(ui) = &self.admin_ui {
            ui.refreshed(socket);
        }
    }
}

/// Refreshes credentials with `auth:refresh`, within the user's rate limit for that event.
pub(super) async fn refresh(
    authenticator: &Authenticator,
    users: &Users,
    current: Arc<Principal>,
    offer: Args,
) -> Result<Principal, Refusal> {
    users
        .check(REFRESH.policy().class, &current.subject)
        .map_err(|retry_after| ServiceError::Limited { retry_after })?;
    // A derived implementation also accepts an array of the fields, and the authenticator ignores
    // additional arguments.
    only_argument::<Option<Argument<RefreshOffer>>>(&offer)?;
    Authenticate::refresh(authenticator, current, offer).await
}

fn too_many() -> Refusal {
    Refusal::new("RATE_LIMITED", "too many connections").data(RETRY_AFTER.data())
}

/// The `error` event for a connection beyond the limit.
const TOO_MANY: ErrorEvent<'_> = ErrorEvent {
    kind: "rateLimit",
    code: "RATE_LIMITED",
    message: "too many connections",
    event: None,
    retry_after: Some(RETRY_AFTER.milliseconds()),
    details: None,
    status: 429,
};

/// When a user with too many connections may retry.
const RETRY_AFTER: RetryAfter = RetryAfter::new(Duration::from_secs(10));
