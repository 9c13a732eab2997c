//! Records the events of moderators in the audit log.

use futures_util::future::BoxFuture;
use serde_json::Value;

use crate::service::audit::Moderation;
use crate::service::{EventPolicy, ServiceError, TargetKind};
use roomcast::Event;

/// Returns the handling of an event, which is recorded if the sender moderates with it. If it
/// cannot be recorded, the event is refused.
pub(super) fn recorded<T: Send + 'static>(
    (moderation, kind): &(Moderation, TargetKind),
    policy: &'static EventPolicy,
    event: &Event,
    handling: BoxFuture<'static, Result<T, ServiceError>>,
) -> BoxFuture<'static, Result<T, ServiceError>> {
    let by = event.principal();
    if !moderation.is_moderator(&by) {
        return handling;
    }
    let (moderation, socket) = (moderation.clone(), event.socket.clone());
    let target = kind.read(event.args());
    let request: Value = event.args().get(0).unwrap_or_default();
    Box::pin(async move {
        let Some(act) = moderation
            .begin(&by, &socket, policy, target?, &request)
            .await?
        else {
            return handling.await;
        };
        let result = handling.await;
        Moderation::end(act, &result).await;
        result
    })
}
