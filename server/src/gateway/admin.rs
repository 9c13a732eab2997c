//! The admin namespace: admission, and the events that admins send.

use std::sync::Arc;

use roomcast_protocol::socket::Args;

use super::catalogue::Catalogue;
use super::{diagnosed, forwarding, identity, limits};
use crate::auth::{Principal, authenticator::Authenticator};
use crate::limit::Users;
use crate::service::api::Admin;
use roomcast::{Authenticate, Connect, Event, Refusal, State, handler::Renewal};

/// Registers the events of the admin namespace.
pub(super) fn register(
    catalogue: &mut Catalogue,
    authenticator: Authenticator,
    users: Arc<Users>,
    admin: Admin,
) {
    let admins = Admins {
        authenticator,
        users,
        admin,
    };
    catalogue.namespace(|namespace| {
        namespace
            .authenticate(admins)
            .middleware(async |connect: Connect| {
                let user = &connect.principal().subject;
                limits::join(connect.state::<Users>(), user)
                    .map_err(|refusal| diagnosed::limited(&connect, user, refusal))
            })
            .on_connect(async |event: Event, admin: State<Admin>| admin.entered(&event.socket))
    });
    forwarding::register_admin(catalogue);
}

/// Admits users who have authenticated and have the permission `admin`. It checks both again when
/// they refresh their credentials.
struct Admins {
    authenticator: Authenticator,
    users: Arc<Users>,
    admin: Admin,
}

impl Admins {
    fn check(&self, principal: Principal) -> Result<Principal, Refusal> {
        let principal = Arc::new(principal);
        self.admin.may_enter(&principal)?;
        Ok(Arc::unwrap_or_clone(principal))
    }
}

impl Authenticate for Admins {
    async fn authenticate(&self, connect: Connect) -> Result<Principal, Refusal> {
        let known = Authenticate::authenticate(&self.authenticator, connect).await;
        self.check(known?)
    }

    async fn recover(
        &self,
        connect: Connect,
        previous: Arc<Principal>,
    ) -> Result<Principal, Refusal> {
        let known = Authenticate::recover(&self.authenticator, connect, previous).await;
        self.check(known?)
    }

    fn revalidate(&self, principal: &Principal) -> Result<(), Refusal> {
        Authenticate::revalidate(&self.authenticator, principal)
    }

    fn renewal(&self) -> Option<Renewal> {
        Authenticate::renewal(&self.authenticator)
    }

    async fn refresh(&self, current: Arc<Principal>, offer: Args) -> Result<Principal, Refusal> {
        let known = identity::refresh(&self.authenticator, &self.users, current, offer).await;
        self.check(known?)
    }
}

#[cfg(test)]
mod tests {
    use crate::service::policy;

    /// The page that authors of clients rely on.
    const PAGE: &str = include_str!("../../../docs/admin.md");

    #[test]
    fn admin_page_lists_every_event_with_its_fields() {
        let received = policy::events().filter(|row| row.namespace() == "/admin");
        let received = received.map(|row| (row.event, (row.payload)()));
        let sent = policy::emissions().filter(|row| row.namespace() == "/admin");
        let sent = sent.map(|row| (row.event, (row.payload)()));
        let rows: Vec<_> = received.chain(sent).collect();
        let listed = PAGE.lines().filter(|line| line.starts_with("| `admin:"));
        assert_eq!(listed.count(), rows.len());
        for (event, schema) in rows {
            let start = format!("| `{event}` | ");
            let row = PAGE.lines().find(|line| line.starts_with(&start));
            let row = row.unwrap_or_else(|| panic!("docs/admin.md lacks {event}"));
            let schema = serde_json::to_value(schema).unwrap();
            for (name, _) in schema["properties"].as_object().into_iter().flatten() {
                assert!(row.contains(&format!("`{name}")), "{event}: no {name}");
            }
        }
    }
}
