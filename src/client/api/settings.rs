use std::time::Duration;

use super::Auth;
use crate::client::options::Target;

/// The settings for connecting and sending. Validated when the client is built.
pub(crate) struct Settings {
    pub(in crate::client) target: Target,
    /// The `auth` of sockets that have none of their own.
    pub(crate) auth: Auth,
    pub(crate) reconnection: bool,
    pub(crate) reconnection_attempts: u32,
    pub(crate) reconnection_delay: Duration,
    pub(crate) reconnection_delay_max: Duration,
    pub(crate) randomization_factor: f64,
    pub(crate) ack_timeout: Duration,
    /// How many times an unacknowledged event is sent again. With 0, events are sent once, and no
    /// event waits for the acknowledgement of another.
    pub(crate) retries: u32,
}
