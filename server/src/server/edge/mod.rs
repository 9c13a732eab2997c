//! What a server needs if no proxy stands before it: redirects to TLS, and certificates from an
//! authority.
//!
//! Without the feature `acme`, `no_acme` refuses a configured authority.

#[cfg(feature = "acme")]
mod acme;
#[cfg(not(feature = "acme"))]
#[path = "no_acme.rs"]
mod acme;
mod challenges;
mod redirect;

pub(super) use acme::Acme;
pub(crate) use acme::FileFault;
pub(super) use challenges::Challenges;
pub(super) use redirect::RedirectListener;
