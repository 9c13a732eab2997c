//! The metrics of the whole server that no other part counts: process, version, store and limits.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use crate::auth::jwt::KeyRing;
use crate::config::Settings;
use crate::metrics::trace::Traces;
use crate::metrics::{expose_build, expose_process};
use crate::service::api::Publications;
use crate::store::{Store, StoreUsage};
use roomcast::metrics::{Exposition, Metrics};

/// Adds the metrics to those of the library.
pub(super) fn register(
    library: &Metrics,
    settings: &Settings,
    store: Store,
    keys: Arc<KeyRing>,
    publications: Option<Publications>,
    traces: Traces,
) {
    let max_connections = settings.limits.connections;
    let max_outbox = settings.engine.outbox.total_outbox_bytes;
    library.extend(move |out| {
        expose_build(out);
        expose_process(out);
        expose_store(out, &store);
        expose_keys(out, &keys);
        if let Some(publications) = &publications {
            out.gauge(
                "roomcast_publications_up",
                "1 while publications in the database are emitted, otherwise 0.",
                u8::from(publications.is_working()),
            );
        }
        out.gauge(
            "roomcast_tracers",
            "Running traces of operators on this server, including those that other servers requested.",
            traces.count(),
        );
        out.gauge(
            "roomcast_connections_max",
            "Maximum number of open connections (limits.connections).",
            max_connections,
        );
        out.gauge(
            "roomcast_outbox_max_bytes",
            "Maximum number of bytes queued for clients (engine.total_outbox_bytes).",
            max_outbox,
        );
    });
}

fn expose_keys(out: &mut Exposition, keys: &KeyRing) {
    for (source, loaded) in keys.loaded() {
        let since_1970 = loaded.and_then(|loaded| loaded.duration_since(UNIX_EPOCH).ok());
        out.labelled(
            "roomcast_auth_keys_loaded_timestamp_seconds",
            "Time at which the keys of tokens were loaded last from this source (file: auth.jwt.keys_file, url: auth.jwt.jwks_url), in seconds since 1970; 0 before the first time.",
            "source",
            source,
            since_1970.unwrap_or_default().as_secs(),
        );
    }
}

fn expose_store(out: &mut Exposition, store: &Store) {
    out.gauge(
        "roomcast_store_up",
        "1 while the store accepts changes, otherwise 0.",
        u8::from(store.is_healthy()),
    );
    let StoreUsage {
        connections,
        max_connections,
        waiting_reads,
        changes,
        max_changes,
    } = store.usage();
    for (name, help, value) in [
        (
            "roomcast_store_connections",
            "Read connections of the store that run a query.",
            connections,
        ),
        (
            "roomcast_store_connections_max",
            "Maximum number of read connections of the store.",
            max_connections,
        ),
        (
            "roomcast_store_waiting_reads",
            "Queries that wait for a connection of the store.",
            waiting_reads,
        ),
        (
            "roomcast_store_changes",
            "Changes that wait to be stored.",
            changes,
        ),
        (
            "roomcast_store_changes_max",
            "Maximum number of changes that wait to be stored (store.queue).",
            max_changes,
        ),
    ] {
        out.gauge(name, help, value);
    }
    let Some(space) = store.space() else { return };
    out.gauge(
        "roomcast_store_bytes",
        "Bytes of the SQLite database that have data.",
        space.used,
    );
    for (name, help, value) in [
        (
            "roomcast_store_max_bytes",
            "Maximum size of the SQLite database in bytes (store.max_bytes).",
            space.max,
        ),
        (
            "roomcast_store_disk_free_bytes",
            "Free bytes of the file system of the SQLite database.",
            space.disk_free,
        ),
    ] {
        if let Some(value) = value {
            out.gauge(name, help, value);
        }
    }
}
