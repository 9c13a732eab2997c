//! Limits on which clients may connect, how often, and how fast they may send.
//!
//! This module works on addresses and numbers, and must not know sessions or events. All of its
//! tables are bounded and remove expired entries.

mod address_log;
mod addresses;
pub(crate) mod bench;
mod blocks;
mod debts;
#[cfg(feature = "tls")]
mod fair_semaphore;
mod guard;
mod hashed;
mod log_throttle;
mod pace;
mod proxy;
pub(crate) mod proxy_protocol;
mod throttle;

pub use blocks::TooManyBlocks;
pub use guard::{Guard, Reason, Refused, Violation};
pub use proxy::{Client, Proxies};

#[doc(hidden)]
pub use debts::{Debts, Full, MAX_EVICTABLE_DEBT};
#[doc(hidden)]
pub use hashed::{ByHash, PrehashedHasher, SHARDS, Shards};
pub(crate) use log_throttle::CauseThrottle;
#[doc(hidden)]
pub use log_throttle::LogThrottle;
#[doc(hidden)]
pub use pace::{RetryAfter, SharedTokenBucket, TokenBucket, WaitingLine};

pub(crate) use address_log::AddressLog;
#[cfg(feature = "tls")]
pub(crate) use fair_semaphore::FairSemaphore;
pub(crate) use guard::Permit;
pub(crate) use throttle::{Rates, Throttle};
