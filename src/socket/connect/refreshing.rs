//! Renews the credentials of a connected client.

use std::sync::Arc;

use roomcast_protocol::socket::Args;
use serde::Serialize;

use super::authenticate::Authenticate;
use crate::{
    Principal,
    socket::{
        core::Event,
        dispatch::{Handler, HandlerFuture},
        types::{Ack, Refusal},
    },
    time::rfc3339,
};

/// The event with which a client sends new credentials.
pub(crate) const REFRESH: &str = "auth:refresh";

/// Returns the handler of `auth:refresh`.
pub(crate) fn refresher<A: Authenticate>(
    authenticate: Arc<A>,
) -> impl Handler<(Args,), Future: HandlerFuture> {
    move |event: Event, offer: Args| {
        let authenticate = Arc::clone(&authenticate);
        async move {
            let current = event.principal();
            let refreshed = authenticate.refresh(Arc::clone(&current), offer).await;
            match refreshed.and_then(|principal| same(&current, principal)) {
                Ok(principal) => {
                    let end = principal.expires_at;
                    event.socket.set_principal(principal);
                    // The credentials may have been revoked during the check, and no other code
                    // would detect that.
                    event.socket.revalidate();
                    authenticate.refreshed(&event.socket);
                    let scope = event.socket.log_scope();
                    crate::throttled_log!(info, socket = %event.socket.id(), "credentials refreshed");
                    drop(scope);
                    Ok(Ack(Refreshed {
                        success: true,
                        expires_at: end.map(rfc3339),
                    }))
                }
                Err(refusal) => {
                    let (socket, io) = (&event.socket, event.io());
                    if let Some(more) = io.may_log_refusal(&refusal) {
                        let reason = refusal.reason();
                        crate::socket::core::io::connection_log!(io, socket = %socket.id(), reason, more, "refresh refused");
                    }
                    if io.record_violation(&refusal, socket.handshake().address().ip()) {
                        socket.close_connection();
                    }
                    Err(refusal)
                }
            }
        }
    }
}

/// Returns the new principal if its user is unchanged. The user of a socket never changes.
fn same(current: &Principal, refreshed: Principal) -> Result<Principal, Refusal> {
    if current.subject == refreshed.subject {
        Ok(refreshed)
    } else {
        let message = "the credentials are another user's";
        Err(Refusal::new("FORBIDDEN", message))
    }
}

/// The acknowledgement of `auth:refresh`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Refreshed {
    success: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
}
