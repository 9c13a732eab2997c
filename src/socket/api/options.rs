//! Validates options and their combinations.

use std::time::Duration;

use crate::{Config, config::Cors, socket::types::BuildError};

pub(crate) fn check(config: &Config) -> Result<(), BuildError> {
    let durations = [
        (config.session.ping_interval, "ping_interval is zero"),
        (config.session.ping_timeout, "ping_timeout is zero"),
        (config.session.upgrade_timeout, "upgrade_timeout is zero"),
        (config.sockets.connect_timeout, "connect_timeout is zero"),
        (config.http.header_timeout, "header_timeout is zero"),
        (config.http.body_timeout, "body_timeout is zero"),
        (
            config.admission.allow_request_timeout,
            "allow_request_timeout is zero",
        ),
        (config.http.write_timeout, "write_timeout is zero"),
        (config.session.message_timeout, "message_timeout is zero"),
        (config.sockets.ack_timeout, "ack_timeout is zero"),
    ];
    let sizes = [
        (config.session.max_payload, "max_payload is zero"),
        (config.outbox.outbox_bytes, "outbox_bytes is zero"),
        (config.sockets.max_in_flight, "max_in_flight is zero"),
        (
            config.admission.max_pending_requests,
            "max_pending_requests is zero",
        ),
        (config.admission.max_handshakes, "max_handshakes is zero"),
        (
            config.sockets.max_listeners_per_socket,
            "max_listeners_per_socket is zero",
        ),
        (
            config.sockets.max_namespaces_per_connection,
            "max_namespaces_per_connection is zero",
        ),
        (
            config.session.max_fragments as usize,
            "max_fragments is zero",
        ),
    ];
    let wrong = durations
        .into_iter()
        .find(|(value, _)| *value == Duration::ZERO);
    let wrong = wrong.map(|(_, reason)| reason);
    let wrong = wrong.or_else(|| {
        sizes
            .into_iter()
            .find(|(n, _)| *n == 0)
            .map(|(_, reason)| reason)
    });
    if let Some(reason) = wrong {
        return Err(BuildError::InvalidOption(reason));
    }
    if let Some(reason) = config.deflate_fault() {
        return Err(BuildError::InvalidOption(reason));
    }
    if let Some(reason) = config.endless() {
        return Err(BuildError::InvalidOption(reason));
    }
    if config.session.transports.is_empty() {
        return Err(BuildError::InvalidOption("transports is empty"));
    }
    let is_tiny = |bytes: Option<u32>| bytes.is_some_and(|bytes| bytes < MIN_KERNEL_BYTES);
    if is_tiny(config.outbox.unsent_bytes) {
        return Err(BuildError::InvalidOption("unsent_bytes is less than 4,096"));
    }
    if is_tiny(config.outbox.send_buffer_bytes) {
        return Err(BuildError::InvalidOption(
            "send_buffer_bytes is less than 4,096",
        ));
    }
    if config.outbox.total_outbox_bytes < config.outbox.outbox_bytes {
        return Err(BuildError::InvalidOption(
            "total_outbox_bytes is smaller than outbox_bytes",
        ));
    }
    if let Some(recovery) = &config.recovery {
        recovery
            .check(config.outbox.outbox_bytes)
            .map_err(BuildError::InvalidOption)?;
    }
    if let Some(fault) = config.http.cors.as_ref().and_then(Cors::fault) {
        return Err(BuildError::InvalidOption(fault));
    }
    if config
        .http
        .cookie
        .as_ref()
        .is_some_and(|cookie| !cookie.is_valid())
    {
        return Err(BuildError::InvalidOption(
            "cookie has characters that a cookie cannot have",
        ));
    }
    if !config.http.path.starts_with('/') {
        return Err(BuildError::InvalidOption(
            "path does not begin with a slash",
        ));
    }
    Ok(())
}

/// Below this size, the kernel sends almost nothing or enforces a larger minimum.
const MIN_KERNEL_BYTES: u32 = 4096;
