//! Converts the configuration into options of the library and the services.

use std::time::Duration;

use super::RunError;
use crate::config::{self, Settings};
use roomcast::{Config, limit::Proxies, options::Cors, service::Tls};

/// Returns how long sessions can be recovered, or `None` if recovery is disabled.
pub(super) fn recovery_window(settings: &Settings) -> Option<Duration> {
    Some(settings.recovery.window).filter(|_| settings.recovery.enabled)
}

/// Returns the certificate and its key if TLS is configured.
pub(super) fn tls(settings: &Settings) -> Result<Option<Tls>, RunError> {
    let files = &settings.server.tls;
    let (Some(cert), Some(key)) = (&files.cert_file, &files.key_file) else {
        return Ok(None);
    };
    let tls = Tls::from_files(cert, key).map_err(RunError::Tls)?;
    Ok(Some(tls))
}

/// Returns the settings of the chat, with the text length capped by the limits.
pub(super) fn chat_settings(settings: &Settings) -> config::Chat {
    config::Chat {
        content_chars: settings.limits.content_chars(settings.chat.content_chars),
        ..settings.chat.clone()
    }
}

/// Returns the trusted proxies.
pub(super) fn proxies(settings: &Settings) -> Proxies {
    let proxies = Proxies::new(settings.server.trusted_proxies.clone());
    match settings.server.proxy_protocol {
        true => proxies.with_proxy_protocol(),
        false => proxies,
    }
}

/// Returns the configuration of the library.
pub(super) fn engine_config(settings: &Settings) -> Config {
    let mut cookie = settings.engine.http.cookie.clone();
    if let Some(cookie) = &mut cookie {
        // With a certificate, browsers must not send the cookie unencrypted.
        cookie.secure |= settings.server.tls.cert_file.is_some();
    }
    let cors = Cors::default()
        .origins(&settings.server.allowed_origins)
        .allow_credentials()
        .enforce();
    let engine = settings.engine.clone().cors(cors).cookie(cookie);
    engine.recovery(Some(settings.recovery.clone()).filter(|on| on.enabled))
}
