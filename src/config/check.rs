//! Checks for values that are valid but cannot be intended.

use std::time::Duration;

use super::Config;

/// The maximum of every duration option. It is short enough to be added to any time without
/// overflow.
const MAX_DURATION: Duration = Duration::from_secs(366 * 86_400);

impl Config {
    /// Returns the fault of the compression options, if any.
    pub(crate) fn deflate_fault(&self) -> Option<&'static str> {
        self.session.per_message_deflate.as_ref()?.fault()
    }

    /// Returns the fault of the first duration that is longer than [`MAX_DURATION`], if any.
    pub(crate) fn endless(&self) -> Option<&'static str> {
        let times = [
            (self.session.ping_interval, "ping_interval is over a year"),
            (self.session.ping_timeout, "ping_timeout is over a year"),
            (
                self.session.upgrade_timeout,
                "upgrade_timeout is over a year",
            ),
            (
                self.sockets.connect_timeout,
                "connect_timeout is over a year",
            ),
            (self.http.header_timeout, "header_timeout is over a year"),
            (self.http.body_timeout, "body_timeout is over a year"),
            (
                self.admission.allow_request_timeout,
                "allow_request_timeout is over a year",
            ),
            (
                self.http.destroy_upgrade_timeout,
                "destroy_upgrade_timeout is over a year",
            ),
            (self.http.write_timeout, "write_timeout is over a year"),
            (
                self.session.message_timeout,
                "message_timeout is over a year",
            ),
            (self.session.close_timeout, "close_timeout is over a year"),
            (self.sockets.ack_timeout, "ack_timeout is over a year"),
            (
                self.session.throttle_timeout,
                "throttle_timeout is over a year",
            ),
        ];
        let endless = times.into_iter().find(|(time, _)| *time > MAX_DURATION);
        endless.map(|(_, fault)| fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_over_a_year_are_rejected() {
        let long = MAX_DURATION + Duration::from_secs(1);
        let config = Config::default().ping_interval(long);
        assert_eq!(config.endless(), Some("ping_interval is over a year"));
        assert_eq!(Config::default().endless(), None);
    }
}
