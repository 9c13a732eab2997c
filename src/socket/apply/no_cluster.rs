//! A stub for `publishing` without the feature `cluster`: there are no other servers.

use roomcast_protocol::Frame;

use super::{RemoteOutcome, TargetNamespace};
use crate::adapter::Operation;

#[inline]
pub(super) fn journal<A>(_: &TargetNamespace, _: &Operation<'_, A>) -> Option<RemoteOutcome> {
    None
}

#[inline]
pub(super) fn others<A>(
    _: &TargetNamespace,
    _: &Operation<'_, A>,
    _: Option<&Frame>,
) -> RemoteOutcome {
    RemoteOutcome::None
}
