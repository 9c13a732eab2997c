//! Section `[admin_ui]`.

use serde::{Deserialize, Serialize};

use crate::config::Secret;

/// Section `[admin_ui]`: the admin UI of the authors of Socket.IO (`@socket.io/admin-ui`).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdminUi {
    /// Whether the admin UI may connect. Default `false`.
    pub enabled: bool,
    /// Namespace that operators enter in the UI: a name with a leading slash, other than `/` and
    /// `/admin`. Default `/admin-ui`.
    pub namespace: String,
    /// User name for the UI: 1 to 64 characters. Default `admin`.
    pub username: String,
    /// bcrypt hash of the password for the UI, with a cost from 10 to 14: `$2a$`, `$2b$` or `$2y$`.
    /// Required if `enabled`. Default: none.
    pub password_hash: Option<Secret>,
    /// Role with the permissions of the UI; it needs `admin`. Default `admin`.
    pub role: String,
    /// Whether the UI only shows, and cannot emit, join, leave and disconnect. Default `true`.
    pub read_only: bool,
    /// What the UI shows. `production`: figures of servers. `development`: also sockets, rooms and
    /// names of events, and in the development profile their arguments. Default `production`.
    pub mode: AdminUiMode,
}

/// What the admin UI shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(clippy::exhaustive_enums, reason = "the UI has two modes")]
pub enum AdminUiMode {
    /// Sockets, rooms and events too.
    Development,
    /// Figures of servers only.
    Production,
}

impl Default for AdminUi {
    fn default() -> Self {
        Self {
            enabled: false,
            namespace: "/admin-ui".into(),
            username: "admin".into(),
            password_hash: None,
            role: "admin".into(),
            read_only: true,
            mode: AdminUiMode::Production,
        }
    }
}

impl AdminUi {
    /// Returns the settings without the hash.
    pub(in crate::config) fn shown(&self) -> Self {
        let mut shown = self.clone();
        if shown.password_hash.is_some() {
            shown.password_hash = Some(Secret::hidden());
        }
        shown
    }

    pub(in crate::config) fn check(&self) -> Result<(), &'static str> {
        let name = self.namespace.strip_prefix('/').unwrap_or_default();
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if name.is_empty() || name.len() > LONGEST_NAME || !name.bytes().all(is_plain) {
            return Err("admin_ui.namespace must be / and 1 to 64 letters, digits, -, _ or .");
        }
        if name == "admin" {
            return Err("admin_ui.namespace is /admin, which is the namespace of admins");
        }
        if self.username.is_empty() || self.username.chars().nth(LONGEST_NAME).is_some() {
            return Err("admin_ui.username must have 1 to 64 characters");
        }
        if self.role.is_empty() {
            return Err("admin_ui.role is empty");
        }
        if self.enabled && self.password_hash.is_none() {
            return Err("admin_ui.enabled is true: set admin_ui.password_hash to a bcrypt hash");
        }
        Ok(())
    }
}

const LONGEST_NAME: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enabled_admin_ui_needs_a_hash_which_is_not_printed() {
        let mut section = AdminUi {
            enabled: true,
            ..AdminUi::default()
        };
        assert!(section.check().unwrap_err().contains("password_hash"));
        section.password_hash = Some(Secret::from("$2b$10$canary".to_owned()));
        assert_eq!(section.check(), Ok(()));
        let shown = toml::to_string(&section.shown()).unwrap();
        assert!(!shown.contains("canary"), "{shown}");
    }

    #[test]
    fn admin_ui_namespace_cannot_be_one_of_the_server() {
        for namespace in ["", "/", "/admin", "admin-ui", "/a/b", "/a?b", "/a b"] {
            let section = AdminUi {
                namespace: namespace.into(),
                ..AdminUi::default()
            };
            assert!(section.check().is_err(), "{namespace}");
        }
    }
}
