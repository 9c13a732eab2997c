use std::time::Duration;

use super::Auth;
use crate::client::{Options, options::Target};

/// How a client connects and sends, checked when it was built.
pub(crate) struct Settings {
    pub(crate) options: Options,
    pub(in crate::client) target: Target,
    /// What sockets send that have no `auth` of their own.
    pub(crate) auth: Auth,
    pub(crate) reconnection: bool,
    pub(crate) reconnection_attempts: u32,
    pub(crate) reconnection_delay: Duration,
    pub(crate) reconnection_delay_max: Duration,
    pub(crate) randomization_factor: f64,
    pub(crate) ack_timeout: Duration,
    /// How often what was not acknowledged is sent again. With 0 events are sent once, and none
    /// waits for the acknowledgement of another.
    pub(crate) retries: u32,
}
