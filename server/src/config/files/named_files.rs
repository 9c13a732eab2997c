//! The files that the configuration names: which of them are private, and what the server does with
//! them.

use std::path::Path;

use crate::config::Settings;

/// A file that a key of the configuration names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NamedFile<'a> {
    pub(crate) key: &'static str,
    /// `None` if the key is unset.
    pub(crate) path: Option<&'a Path>,
    /// Whether it has secrets or data of users. Other users of the machine must not read it then.
    pub(crate) is_private: bool,
    pub(crate) access: FileAccess,
}

/// How the server uses a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileAccess {
    Read,
    /// The server creates the file if it is missing, and reads it otherwise.
    ReadIfExists,
    Write,
}

/// Returns the file of each key that names a file, also of unset keys. A test compares the keys
/// with those of the configuration.
pub(crate) fn named_files(settings: &Settings) -> Vec<NamedFile<'_>> {
    use FileAccess::{Read, ReadIfExists, Write};
    let server = &settings.server;
    let (acme, tls, jwt) = (&server.acme, &server.tls, &settings.auth.jwt);
    let obtained = if acme.url.is_some() {
        ReadIfExists
    } else {
        Read
    };
    let executor = &settings.market.webhook;
    let private = [
        ("server.tls.key_file", &tls.key_file, obtained),
        ("server.acme.account_file", &acme.account_file, ReadIfExists),
        (
            "server.metrics_token_file",
            &server.metrics_token_file,
            Read,
        ),
        ("auth.jwt.keys_file", &jwt.keys_file, Read),
        ("otlp.headers_file", &settings.otlp.headers_file, Read),
        ("log.file", &settings.log.file, Write),
        ("audit.file", &settings.audit.file, Write),
    ];
    let public = [
        ("server.tls.cert_file", &tls.cert_file, obtained),
        ("server.acme.ca_file", &acme.ca_file, Read),
        ("auth.jwt.jwks_ca_file", &jwt.jwks_ca_file, Read),
        ("auth.backend.ca_file", &settings.auth.backend.ca_file, Read),
        ("ask.ca_file", &settings.ask.ca_file, Read),
        ("webhooks.ca_file", &settings.webhooks.ca_file, Read),
        ("market.webhook.ca_file", &executor.ca_file, Read),
        ("otlp.ca_file", &settings.otlp.ca_file, Read),
    ];
    let named = |is_private| {
        move |(key, path, access)| {
            let path: &Option<_> = path;
            NamedFile {
                key,
                path: path.as_deref(),
                is_private,
                access,
            }
        }
    };
    let private = private.into_iter().map(named(true));
    private
        .chain(public.into_iter().map(named(false)))
        .collect()
}
