//! The listeners besides that of clients: of operators, and of redirects to TLS. Certificates from an
//! authority, whose challenges the latter answers.
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

pub(super) use acme::Acme;
pub(crate) use acme::FileFault;
pub(super) use admin::AdminListener;
pub(super) use challenges::Challenges;
pub(super) use redirect::RedirectListener;
