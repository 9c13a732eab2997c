//! Who may connect, how often, and how fast. It knows addresses, users and numbers, and nothing of
//! what they are for: neither sessions nor events.
//!
//! Every table in here is bounded and forgets what is over.

mod addresses;
#[cfg(feature = "server")]
pub(crate) mod bench;
mod blocks;
mod guard;
mod hashed;
mod proxy;
pub(crate) mod proxy_protocol;
mod quiet;
mod throttle;
#[cfg(feature = "tls")]
mod turns;
#[cfg(feature = "server")]
mod users;

pub use blocks::TooManyBlocks;
pub use guard::{Guard, Reason, Refused, Violation};
pub use proxy::{Client, Proxies};

pub(crate) use guard::Permit;
pub(crate) use quiet::Quiet;
pub(crate) use throttle::{Rates, Throttle};
#[cfg(feature = "tls")]
pub(crate) use turns::Turns;
#[cfg(feature = "server")]
pub(crate) use users::{Allowance, Class, Users};
