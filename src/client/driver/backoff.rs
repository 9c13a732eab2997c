use std::time::Duration;

use crate::client::api::Settings;

/// The delay before the next connection attempt.
///
/// The delay doubles after each attempt. Random jitter keeps thousands of clients from reconnecting
/// to one server at the same time.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    pub(super) attempts: u32,
}

impl Backoff {
    /// Returns the delay before the next attempt.
    pub(super) fn next(&mut self, settings: &Settings) -> Duration {
        let mut bytes = [0; 8];
        // If no random bytes are available, there is no jitter.
        let chance = match getrandom::fill(&mut bytes) {
            Ok(()) => u64::from_le_bytes(bytes),
            Err(_) => u64::MAX / 2,
        };
        let wait = wait(
            self.attempts,
            settings.reconnection_delay,
            settings.reconnection_delay_max,
            settings.randomization_factor,
            chance as f64 / u64::MAX as f64,
        );
        self.attempts = self.attempts.saturating_add(1);
        wait
    }
}

/// Returns the delay with jitter. `chance` is from 0 (shortest delay) to 1 (longest delay).
fn wait(attempts: u32, min: Duration, max: Duration, factor: f64, chance: f64) -> Duration {
    let wait = min.as_secs_f64() * 2_f64.powi(i32::try_from(attempts).unwrap_or(i32::MAX));
    let wait = wait * (1.0 + factor * (2.0 * chance - 1.0));
    // After many attempts the delay exceeds the range of a `Duration`, and therefore `max`.
    Duration::try_from_secs_f64(wait.max(0.0)).map_or(max, |wait| wait.min(max))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_maximum() {
        let (min, max) = (Duration::from_secs(1), Duration::from_secs(5));
        let waits: Vec<u64> = (0..5)
            .map(|attempts| wait(attempts, min, max, 0.5, 0.5).as_secs())
            .collect();
        assert_eq!(waits, [1, 2, 4, 5, 5]);
        assert_eq!(wait(u32::MAX, min, max, 0.5, 0.0), max);
        assert_eq!(wait(9, Duration::ZERO, max, 0.5, 1.0), Duration::ZERO);
    }

    #[test]
    fn jitter_is_a_fraction_of_the_delay_in_both_directions() {
        let (min, max) = (Duration::from_secs(1), Duration::from_secs(50));
        let millis = |chance| wait(1, min, max, 0.25, chance).as_millis();
        assert_eq!([millis(0.0), millis(0.5), millis(1.0)], [1500, 2000, 2500]);
        assert_eq!(wait(1, min, max, 0.0, 1.0), Duration::from_secs(2));
        assert_eq!(wait(5, min, max, 1.0, 1.0), max);
    }
}
