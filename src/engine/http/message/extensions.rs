//! Negotiates extensions of a WebSocket; the only one is permessage-deflate.

use http::{HeaderMap, HeaderValue, header};
use roomcast_protocol::websocket::deflate::{self, Agreement};

use super::{refusal::RequestError, reply::Reply};
use crate::Config;

/// Chooses the first acceptable offer of a request. Returns `None` if there is none, or if the
/// server has no extension.
pub(in crate::engine::http) fn negotiate(
    headers: &HeaderMap,
    config: &Config,
) -> Result<Option<Agreement>, RequestError> {
    let Some(options) = &config.session.per_message_deflate else {
        // An extension that is not in the response is declined, whatever the header contains.
        return Ok(None);
    };
    let mut offers = Vec::new();
    for value in headers.get_all(header::SEC_WEBSOCKET_EXTENSIONS) {
        offers.push(value.to_str().map_err(|_| RequestError::BadHandshake)?);
    }
    deflate::negotiate(offers, &options.terms()).map_err(|_| RequestError::BadHandshake)
}

/// Names the chosen extension in a response.
pub(in crate::engine::http) fn answer(mut reply: Reply, agreement: Option<&Agreement>) -> Reply {
    if let Some(chosen) = agreement.and_then(|chosen| HeaderValue::try_from(chosen.header()).ok()) {
        let headers = reply.headers_mut();
        headers.insert(header::SEC_WEBSOCKET_EXTENSIONS, chosen);
    }
    reply
}
