//! The listeners besides that of clients: of operators, and of redirects to TLS. Certificates from
//! an authority, whose challenges the latter answers.
//!
//! Without the feature `acme`, `no_acme` refuses a configured authority.

#[cfg(feature = "acme")]
mod acme;
#[cfg(not(feature = "acme"))]
#[path = "no_acme.rs"]
mod acme;
mod admin;
mod challenges;
mod redirect;

use crate::auth::outbound::Target;
use crate::config;

pub(super) use acme::Acme;
pub(crate) use acme::FileFault;
pub(super) use admin::AdminListener;
pub(super) use challenges::Challenges;
pub(super) use redirect::RedirectListener;

/// Returns the target of requests to a URL of the certificate authority: its directory, or one that
/// it has named.
pub(super) fn authority<'a>(config: &'a config::Acme, url: &'a str) -> Target<'a> {
    Target {
        section: "server.acme",
        url,
        ca_file: config.ca_file.as_deref(),
        timeout: config.timeout,
        allow_private: config.allow_private,
    }
}
