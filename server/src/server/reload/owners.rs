//! Replaces the secrets, the limits of users and the kinds of channels of the running server by
//! those of a configuration that was read again.
//!
//! Each value has one owner, which uses the new value from then on. Connected clients stay
//! connected.

use std::fmt::Display;
use std::sync::Arc;

use crate::auth::{backend::BackendLogins, configured, jwt::KeyRing};
use crate::config::{Secret, Settings};
use crate::gateway::AdminUi;
use crate::http::scrape::Readers;
use crate::limit::Users;
use crate::service::{
    Channels, Hooks, Market,
    cluster::{AdapterUrl, Sealing},
};
use crate::store::Store;
use roomcast::Io;

/// Replaces values that have been checked. It cannot fail, so that either all values are replaced
/// or none.
pub(crate) type Replacement = Box<dyn FnOnce() + Send>;

/// The owners of all values that can be replaced.
pub(in crate::server) struct Owners {
    pub(in crate::server) adapter: AdapterUrl,
    pub(in crate::server) admin_ui: Option<AdminUi>,
    pub(in crate::server) backend: Option<Arc<BackendLogins>>,
    pub(in crate::server) channels: Channels,
    pub(in crate::server) hooks: Hooks,
    pub(in crate::server) io: Io,
    pub(in crate::server) keys: Arc<KeyRing>,
    pub(in crate::server) market: Market,
    pub(in crate::server) readers: Readers,
    pub(in crate::server) sealing: Sealing,
    pub(in crate::server) store: Store,
    pub(in crate::server) users: Arc<Users>,
}

impl Owners {
    /// Checks these settings, and returns what replaces the present values.
    ///
    /// # Errors
    ///
    /// If a secret cannot be used, or a kind of channels is wrong.
    pub(in crate::server) fn prepare(
        self: &Arc<Self>,
        settings: &Settings,
    ) -> Result<Replacement, String> {
        let replace_adapter = self.adapter.prepare(settings).map_err(text)?;
        let fixed = configured::fixed_again(settings, &self.keys).map_err(text)?;
        let token = Market::executor_token(&settings.market).map_err(text)?;
        let kinds = self.channels.prepare(&settings.channels).map_err(text)?;
        let replace_sealing = self.sealing.prepare(settings).map_err(text)?;
        let replace_store = self.store.prepare_credentials(&settings.store);
        let replace_store = replace_store.map_err(text)?;
        let (owners, settings) = (Arc::clone(self), settings.clone());
        Ok(Box::new(move || {
            replace_store();
            replace_adapter();
            replace_sealing();
            owners.keys.replace_fixed(fixed);
            owners.market.replace_executor_token(token);
            owners.hooks.replace_secrets(&settings.webhooks);
            owners.channels.replace_secrets(&settings.ask);
            if let Some(backend) = &owners.backend {
                backend.replace_secrets(&settings.auth.backend.secrets);
            }
            if let (Some(ui), Some(hash)) = (&owners.admin_ui, &settings.admin_ui.password_hash) {
                ui.replace_password(hash, &owners.io);
            }
            let token = settings.server.metrics_token.as_ref();
            owners.readers.replace_token(token.map(Secret::expose));
            owners.users.replace_limits(&settings.limits);
            owners.channels.replace_kinds(kinds, &owners.io.of("/"));
        }))
    }
}

fn text(error: impl Display) -> String {
    error.to_string()
}
