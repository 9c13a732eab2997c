//! Tests whether configured targets work: the database, the adapter, sources of keys, services and
//! files.
//!
//! Nothing is changed: no table is created, no event is sent, and no service receives a request
//! except the source of keys.

use std::path::Path;

use rustix::fs::{Access, access};

use super::{edge, otlp};
use crate::auth::{
    configured,
    outbound::{Outbound, Target},
};
use crate::config::{FileAccess, NamedFile, Settings, named_files};
use crate::service::cluster;
use crate::store::Store;

/// The result for one configuration key.
#[derive(Debug)]
pub(crate) struct Trial {
    pub(crate) key: &'static str,
    /// The target of the key, without secrets.
    pub(crate) target: String,
    /// The cause and a remedy if the target does not work.
    pub(crate) fault: Option<String>,
}

impl Trial {
    fn new(key: &'static str, target: impl Into<String>, outcome: Result<(), String>) -> Self {
        Self {
            key,
            target: target.into(),
            fault: outcome.err(),
        }
    }
}

/// Tests all targets one after another.
pub(crate) async fn try_all(settings: &Settings) -> Vec<Trial> {
    let mut trials = Vec::new();
    let store = Store::try_out(&settings.store).await;
    let store = store.map_err(|error| error.to_string());
    trials.push(Trial::new("store.url", settings.store.shown_url(), store));
    if let Some(url) = cluster::url(settings) {
        let shown = settings.adapter.shown_url(&settings.store);
        let reached = reach_adapter(settings, url).await;
        trials.push(Trial::new("adapter.url", shown, reached));
    }
    if let Some((url, fetched)) = configured::fetch(&settings.auth.jwt).await {
        let remedy = "check the address, and auth.jwt.jwks_ca_file if its authority is private";
        let fetched = fetched.map_err(|fault| format!("{fault}: {remedy}"));
        trials.push(Trial::new("auth.jwt.jwks_url", url, fetched));
    }
    for (key, target) in services(settings) {
        trials.push(reach(key, target).await);
    }
    trials.extend(files(settings));
    trials
}

#[cfg(any(feature = "nats", feature = "postgres", feature = "redis"))]
async fn reach_adapter(settings: &Settings, url: &str) -> Result<(), String> {
    use std::time::{Duration, Instant};

    use roomcast::adapter::Health;

    // The time that a message waits for the adapter, plus a margin.
    const TIMEOUT: Duration = Duration::from_secs(6);
    const INTERVAL: Duration = Duration::from_millis(50);

    // A send-only client joins no cluster, so that no server notices it. It sends nothing, so it
    // needs no sealing.
    let emitter = cluster::emitter(settings, url, &cluster::Sealing::default())
        .map_err(|error| error.to_string())?;
    let start = Instant::now();
    while let Health::Down(why) = emitter.health() {
        if start.elapsed() > TIMEOUT {
            return Err(format!(
                "{why}: check the address and the credentials in adapter.url"
            ));
        }
        tokio::time::sleep(INTERVAL).await;
    }
    let closed = emitter.close().await;
    closed.map_err(|lost| lost.why)
}

#[cfg(not(any(feature = "nats", feature = "postgres", feature = "redis")))]
fn reach_adapter(_: &Settings, _: &str) -> std::future::Ready<Result<(), String>> {
    std::future::ready(Err("this build has no adapter".to_owned()))
}

/// Returns the services that the server calls, with the configuration keys of their URLs.
fn services(settings: &Settings) -> Vec<(&'static str, Target<'_>)> {
    let backend = &settings.auth.backend;
    let (ask, hooks) = (&settings.ask, &settings.webhooks);
    let executor = &settings.market.webhook;
    let acme = &settings.server.acme;
    let services = [
        backend.url.as_deref().map(|url| {
            let target = Target {
                section: "auth.backend",
                url,
                ca_file: backend.ca_file.as_deref(),
                timeout: backend.timeout,
                allow_private: backend.allow_private,
            };
            ("auth.backend.url", target)
        }),
        ask.url.as_deref().map(|url| {
            let target = Target {
                section: "ask",
                url,
                ca_file: ask.ca_file.as_deref(),
                timeout: ask.timeout,
                allow_private: ask.allow_private,
            };
            ("ask.url", target)
        }),
        hooks.url.as_deref().map(|url| {
            let target = Target {
                section: "webhooks",
                url,
                ca_file: hooks.ca_file.as_deref(),
                timeout: hooks.timeout,
                allow_private: hooks.allow_private,
            };
            ("webhooks.url", target)
        }),
        executor.url.as_deref().map(|url| {
            let target = Target {
                section: "market.webhook",
                url,
                ca_file: executor.ca_file.as_deref(),
                timeout: executor.timeout,
                allow_private: executor.allow_private,
            };
            ("market.webhook.url", target)
        }),
        otlp::target(&settings.otlp).map(|target| ("otlp.url", target)),
        acme.url
            .as_deref()
            .map(|url| ("server.acme.url", edge::authority(acme, url))),
    ];
    services.into_iter().flatten().collect()
}

/// Connects to a service, with TLS if configured. No request is sent, because the service might act
/// on it.
async fn reach(key: &'static str, target: Target<'_>) -> Trial {
    let shown = target.url.split(['?', '#']).next().unwrap_or_default();
    let section = target.section;
    let reached = match Outbound::new(target) {
        Ok(outbound) => outbound.reach().await.map_err(|error| {
            format!("{error}: check {key}, and {section}.ca_file if its authority is private")
        }),
        Err(fault) => Err(fault.to_string()),
    };
    Trial::new(key, shown, reached)
}

/// Tests the files that the server reads and writes. Their contents are checked elsewhere.
fn files(settings: &Settings) -> Vec<Trial> {
    let files = named_files(settings).into_iter();
    let trials = files.filter_map(
        |NamedFile {
             key, path, access, ..
         }| {
            let path = path?;
            let usable = match access {
                FileAccess::ReadIfExists if !path.exists() => return None,
                FileAccess::ReadIfExists | FileAccess::Read => readable(path),
                FileAccess::Write => writable(path),
            };
            Some(Trial::new(key, path.display().to_string(), usable))
        },
    );
    trials.collect()
}

/// Returns whether a file can be read.
fn readable(path: &Path) -> Result<(), String> {
    access(path, Access::READ_OK).map_err(|error| format!("{error}: let this user read the file"))
}

/// Returns whether a file can be written or created.
fn writable(path: &Path) -> Result<(), String> {
    // The server creates missing folders.
    let existing = path.ancestors().find(|path| path.exists());
    let place = existing.unwrap_or_else(|| Path::new("."));
    let is_folder = place.is_dir();
    if is_folder == (place == path) {
        let place = place.display();
        return Err(match is_folder {
            true => format!("{place} is a folder: name a file"),
            false => format!("{place} is not a folder: name a file in a folder"),
        });
    }
    access(place, Access::WRITE_OK).map_err(|error| {
        let user = rustix::process::geteuid().as_raw();
        format!(
            "{}: {error}: give user {user} the right to write there",
            place.display()
        )
    })
}
