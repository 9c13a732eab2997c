//! Records the events of moderators in the audit log.

use futures_util::future::BoxFuture;
use serde_json::Value;

use crate::service::audit::Audit;
use crate::service::{EventPolicy, ServiceError, TargetKind};
use roomcast::Event;

/// Returns the handling of an event, which is recorded if the sender moderates with it. If it
/// cannot be recorded, the event is refused.
pub(super) fn recorded<T: Send + 'static>(
    (audit, kind): &(Audit, TargetKind),
    policy: &'static EventPolicy,
    event: &Event,
    handling: BoxFuture<'static, Result<T, ServiceError>>,
) -> BoxFuture<'static, Result<T, ServiceError>> {
    let by = event.principal();
    if !audit.is_moderator(&by) {
        return handling;
    }
    let (audit, kind, socket) = (audit.clone(), *kind, event.socket.clone());
    let request: Value = event.args().get(0).unwrap_or_default();
    Box::pin(async move {
        let begun = audit.begin_moderation(&by, &socket, (policy, kind), &request);
        let Some(act) = begun.await? else {
            return handling.await;
        };
        let result = handling.await;
        act.end_of(&result, |_| Value::Null).await;
        result
    })
}
