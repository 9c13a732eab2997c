//! Replaces `forward` in builds without the feature.

use std::{
    future::{Ready, ready},
    sync::Arc,
};

use http::request::Parts;
use roomcast_protocol::Tag;

use super::{
    handoff::{ForwardedRequest, HandoffCell},
    message::{
        body::Pieces,
        refusal::{RequestError, Unknown},
        reply::Reply,
    },
};
use crate::engine::{primitives::Peer, session::Engine};

impl Engine {
    pub(super) fn take_proof(
        &self,
        _: &mut Parts,
    ) -> Result<Option<ForwardedRequest>, RequestError> {
        Ok(None)
    }

    pub(super) fn prove_identity(&self, _: &Parts) -> Option<Reply> {
        None
    }

    pub(super) fn forward_request(
        self: &Arc<Self>,
        _: Parts,
        _: &mut dyn Pieces,
        _: Peer,
        _: Tag,
        _: Option<&str>,
        _: &HandoffCell,
    ) -> Ready<Result<Reply, RequestError>> {
        ready(Err(RequestError::UnknownSession(Unknown::Unowned)))
    }
}
