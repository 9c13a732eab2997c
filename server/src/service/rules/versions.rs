//! Replaced events. A breaking change gets a new name, `domain:action:v2`, and for a time the
//! server supports both.

use std::time::{Duration, SystemTime};

use jiff::{Timestamp, civil::Date, tz::TimeZone};

/// The event that a row replaces.
#[derive(Debug)]
pub(crate) struct Replaces {
    /// The name of the replaced event.
    pub(crate) event: &'static str,
    /// The first day on which both events are supported, such as `2026-11-21`.
    pub(crate) since: &'static str,
}

impl Replaces {
    fn since(&self) -> Option<SystemTime> {
        let day: Date = self.since.parse().ok()?;
        let start = day.to_zoned(TimeZone::UTC).ok()?;
        Some(Timestamp::from(start).into())
    }
}

/// How long a replaced event is supported, counted from the day of replacement:
/// `server.deprecated_events`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Overlap(pub(crate) Duration);

impl Overlap {
    /// Returns the time until which the replaced event is supported.
    ///
    /// # Panics
    ///
    /// If the day in the row is not a valid date.
    pub(crate) fn end(self, replaces: &Replaces) -> SystemTime {
        let since = replaces.since().expect("a row's day is one");
        since + self.0
    }
}

/// Rows for tests only, with one replaced event of each delivery in each direction.
#[cfg(test)]
pub(crate) mod sample {
    use schemars::JsonSchema;
    use serde::{Deserialize, Serialize};

    use crate::service::rules::emission::{Keyed, emissions};
    use crate::service::rules::event::events;

    events! {
        ASK {
            event: "price:ask", payload: AskPrice, answer: Price,
            permission: None, limit: Requests, room: Anyone, argument: object,
            does: "reads a price",
            example: {"symbol": "ADA"},
            answered: Price { price: "1.5".to_owned() },
        }
        ASK_EXACTLY {
            event: "price:ask:v2", payload: AskExactPrice, answer: ExactPrice,
            permission: None, limit: Requests, room: Anyone, argument: object,
            does: "reads a price",
            example: {"symbol": "ADA", "currency": "EUR"},
            answered: ExactPrice { cents: 150 },
            replaces: "price:ask" since "2025-01-31",
        }
    }

    emissions! {
        PRICE {
            event: "price:update", payload: Price, delivery: Reliable,
            summary: "a price has changed",
            to: "all sockets", rooms: [],
            example: Price { price: "1.5".to_owned() },
        }
        EXACT_PRICE {
            event: "price:update:v2", payload: ExactPrice, delivery: Succeeding<Price>,
            summary: "a price has changed",
            to: "all sockets", rooms: [],
            example: ExactPrice { cents: 150 },
            replaces: "price:update" since "2025-01-31",
        }
        LAST_PRICE {
            event: "price:last", payload: Price, delivery: Conflated,
            summary: "the last price",
            to: "all sockets", rooms: [],
            example: Price { price: "1.5".to_owned() },
        }
        LAST_EXACT_PRICE {
            event: "price:last:v2", payload: ExactPrice, delivery: Succeeding<Price, Conflated>,
            summary: "the last price",
            to: "all sockets", rooms: [],
            example: ExactPrice { cents: 150 },
            replaces: "price:last" since "2025-01-31",
        }
        FINAL_PRICE {
            event: "price:final", payload: Price, delivery: Confirmed,
            summary: "the final price",
            to: "all sockets", rooms: [],
            example: Price { price: "1.5".to_owned() },
        }
        FINAL_EXACT_PRICE {
            event: "price:final:v2", payload: ExactPrice, delivery: Succeeding<Price, Confirmed>,
            summary: "the final price",
            to: "all sockets", rooms: [],
            example: ExactPrice { cents: 150 },
            replaces: "price:final" since "2025-01-31",
        }
    }

    #[derive(Debug, Deserialize, JsonSchema)]
    #[expect(dead_code, reason = "never read")]
    pub(crate) struct AskPrice {
        symbol: String,
    }

    #[derive(Debug, Deserialize, JsonSchema)]
    #[expect(dead_code, reason = "never read")]
    pub(crate) struct AskExactPrice {
        symbol: String,
        currency: String,
    }

    #[derive(Serialize, JsonSchema)]
    pub(crate) struct Price {
        pub(crate) price: String,
    }

    #[derive(Serialize, JsonSchema)]
    pub(crate) struct ExactPrice {
        pub(crate) cents: u32,
    }

    impl Keyed for Price {
        const BY: &'static str = "server";

        fn key(&self) -> String {
            "price".to_owned()
        }
    }

    impl Keyed for ExactPrice {
        const BY: &'static str = "server";

        fn key(&self) -> String {
            "price".to_owned()
        }
    }

    impl From<&ExactPrice> for Price {
        fn from(exact: &ExactPrice) -> Self {
            let price = format!("{}.{:02}", exact.cents / 100, exact.cents % 100);
            Self { price }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::rules::emission::version;
    use crate::service::rules::policy;

    #[test]
    fn replaced_event_is_served_for_the_overlap_from_its_date() {
        let replaces = Replaces {
            event: "price:ask",
            since: "2026-11-21",
        };
        let end = Overlap(Duration::from_secs(86_400)).end(&replaces);
        let expected: Timestamp = "2026-11-22T00:00:00Z".parse().unwrap();
        assert_eq!(end, SystemTime::from(expected));
    }

    #[test]
    fn replaced_events_exist_with_the_previous_version_and_a_valid_date() {
        let received = policy::events().chain(sample::EVENTS.iter().copied());
        let received: Vec<_> = received.map(|row| (row.event, &row.replaces)).collect();
        let sent = policy::emissions().chain(sample::EMISSIONS.iter().copied());
        let sent: Vec<_> = sent.map(|row| (row.event, &row.replaces)).collect();
        for rows in [received, sent] {
            for (event, replaces) in &rows {
                let Some(replaces) = replaces else {
                    assert_eq!(version(event), 1, "{event} replaces nothing");
                    continue;
                };
                assert!(
                    rows.iter().any(|(known, _)| *known == replaces.event),
                    "{event}"
                );
                assert_eq!(version(event), version(replaces.event) + 1, "{event}");
                let base = replaces.event.split(":v").next().unwrap();
                assert_eq!(*event, format!("{base}:v{}", version(event)));
                assert!(replaces.since().is_some(), "{event}");
            }
        }
    }
}
