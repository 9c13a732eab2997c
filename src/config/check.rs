//! Values that make sense by themselves and cannot be meant.

use std::time::Duration;

use super::Config;

/// Longer than anything is meant to take, and short enough to be added to any time.
const LONGEST: Duration = Duration::from_secs(366 * 86_400);

impl Config {
    /// The option that takes longer than anything is meant to, if there is one.
    pub(crate) fn endless(&self) -> Option<&'static str> {
        let times = [
            (self.ping_interval, "ping_interval is over a year"),
            (self.ping_timeout, "ping_timeout is over a year"),
            (self.upgrade_timeout, "upgrade_timeout is over a year"),
            (self.connect_timeout, "connect_timeout is over a year"),
            (self.header_timeout, "header_timeout is over a year"),
            (self.body_timeout, "body_timeout is over a year"),
            (
                self.allow_request_timeout,
                "allow_request_timeout is over a year",
            ),
            (
                self.destroy_upgrade_timeout,
                "destroy_upgrade_timeout is over a year",
            ),
            (self.write_timeout, "write_timeout is over a year"),
            (self.message_timeout, "message_timeout is over a year"),
            (self.close_timeout, "close_timeout is over a year"),
            (self.ack_timeout, "ack_timeout is over a year"),
            (self.throttle_timeout, "throttle_timeout is over a year"),
        ];
        let endless = times.into_iter().find(|(time, _)| *time > LONGEST);
        endless.map(|(_, fault)| fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_longer_than_a_year_is_a_mistake() {
        let long = LONGEST + Duration::from_secs(1);
        let config = Config {
            ping_interval: long,
            ..Config::default()
        };
        assert_eq!(config.endless(), Some("ping_interval is over a year"));
        assert_eq!(Config::default().endless(), None);
    }
}
