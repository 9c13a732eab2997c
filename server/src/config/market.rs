//! Sections `[market]` and `[notifications]`.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Secret, store::shown_address};

/// Section `[market]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Market {
    /// Whether the chat page links to the trading page for all users except guests, instead of only
    /// for those who may execute trades. Default `false`.
    pub page: bool,
    /// Executor of trades. Default [`Executor::Paper`].
    pub executor: Executor,
    /// Prices that the paper executor uses while no price of the symbol is published:
    /// `SYMBOL=PRICE`. Default: none.
    pub prices: Vec<String>,
    /// Minimum interval between two price events of a symbol. Of the prices in between, only the
    /// newest is sent, at the end of the interval. Zero sends every price. Default 100 ms.
    #[serde(with = "humantime_serde")]
    pub price_interval: Duration,
    /// How long a symbol is kept after its last published price. It is then removed, so that there
    /// is room for another symbol. Default 7 days.
    #[serde(with = "super::days")]
    pub symbol_expiry: Duration,
    /// Maximum number of open trades of a user. A snapshot contains all of them. Default 200.
    pub open_trades: u32,
    /// Maximum number of signal channels to which a connection may be subscribed. Default 100.
    pub channels: usize,
    /// Whether `subscribe:trades` also subscribes to the user's portfolio and notifications, and
    /// `unsubscribe:trades` ends all three, for clients that know no other subscription. Default
    /// `false`.
    pub bundle_subscriptions: bool,
    /// Who may follow signals: the first entry that matches a channel of signals decides. `channel`
    /// is the name of a channel, or a prefix followed by `*`. `follow` has the rules of
    /// `channels.NAME.follow`, one match is enough: `anyone`, `users` (no guests), `role:NAME`,
    /// `owner:{channel}`, `claim:NAME` (users whose token has this claim with the value `true`) or
    /// `claim:NAME={channel}` (with the value `true`, `*` or the channel, or a list with one of the
    /// last two). All signals require the right to each entry. As an environment variable, a list
    /// in TOML. Default: everyone may follow all channels.
    pub signals: Vec<SignalChannel>,
    /// How long signals and settled trades (executed, failed or canceled) are retained. Default 30
    /// days.
    #[serde(with = "super::days")]
    pub retention: Duration,
    /// Service that executes trades for the executor `webhook`.
    pub webhook: Webhook,
}

/// An entry of `market.signals`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SignalChannel {
    /// Name of a channel of signals, or a prefix followed by `*`. Required.
    pub channel: String,
    /// The rules about who may follow it. Required.
    pub follow: Vec<String>,
}

/// The executor of trades.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(clippy::exhaustive_enums, reason = "the set is complete")]
pub enum Executor {
    /// None: trades are refused.
    None,
    /// The server executes trades itself at the last known price.
    #[default]
    Paper,
    /// A service that is called over HTTP.
    Webhook,
}

/// Section `[market.webhook]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Webhook {
    /// URL to which trades are sent: `https://…`, or `http://…` if private addresses are allowed.
    /// Default: none.
    pub url: Option<String>,
    /// Bearer token in requests. Default: none.
    pub token: Option<Secret>,
    /// PEM file with the certificate authorities for the service. Default: those that this machine
    /// trusts.
    pub ca_file: Option<PathBuf>,
    /// Timeout of one request, from resolving the host name to the last byte of the response.
    /// Default 5 s.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// The number of times that a trade is sent with the same idempotency key before its client is
    /// notified that the outcome is unknown. Default 3.
    pub attempts: u32,
    /// Delay after the first attempt; each further one doubles it, up to 10 s. Default 200 ms.
    #[serde(with = "humantime_serde")]
    pub retry_delay: Duration,
    /// The delay after the last attempt until a trade whose outcome is unknown is sent again.
    /// Default 30 s.
    #[serde(with = "humantime_serde")]
    pub reconcile_after: Duration,
    /// Whether the service may have an address that is not on the public internet. Default `false`.
    pub allow_private: bool,
}

impl Default for Market {
    fn default() -> Self {
        Self {
            page: false,
            executor: Executor::Paper,
            prices: Vec::new(),
            price_interval: Duration::from_millis(100),
            symbol_expiry: Duration::from_secs(7 * 86_400),
            open_trades: 200,
            channels: 100,
            bundle_subscriptions: false,
            signals: Vec::new(),
            retention: Duration::from_secs(30 * 86_400),
            webhook: Webhook::default(),
        }
    }
}

impl Default for Webhook {
    fn default() -> Self {
        Self {
            url: None,
            token: None,
            ca_file: None,
            timeout: Duration::from_secs(5),
            attempts: 3,
            retry_delay: Duration::from_millis(200),
            reconcile_after: Duration::from_secs(30),
            allow_private: false,
        }
    }
}

impl Market {
    /// Returns the configured price of a symbol.
    #[must_use]
    pub fn price(&self, symbol: &str) -> Option<f64> {
        let prices = self.prices.iter().filter_map(|price| parse(price));
        prices
            .filter(|(name, _)| *name == symbol)
            .map(|(_, price)| price)
            .next_back()
    }

    /// Returns the settings without secrets.
    pub(super) fn shown(&self) -> Self {
        let mut shown = self.clone();
        shown.webhook.url = self.webhook.url.as_deref().map(shown_address);
        if shown.webhook.token.is_some() {
            shown.webhook.token = Some(Secret::hidden());
        }
        shown
    }

    pub(super) fn check(&self) -> Result<(), &'static str> {
        if self.prices.iter().any(|price| parse(price).is_none()) {
            return Err(
                "market.prices: each must be SYMBOL=PRICE, with a price above zero that a double holds exactly",
            );
        }
        if self.price_interval > LONGEST_REQUEST {
            return Err("market.price_interval is over a minute");
        }
        if self.symbol_expiry < SHORTEST_EXPIRY || self.symbol_expiry > LONGEST {
            return Err("market.symbol_expiry must be from a second to 366 days");
        }
        if self.open_trades == 0 || self.open_trades > MOST_OPEN {
            return Err("market.open_trades must be from 1 to 1000");
        }
        if self.channels == 0 {
            return Err("market.channels is zero");
        }
        if self.retention < SHORTEST_RETENTION || self.retention > LONGEST {
            return Err("market.retention must be from an hour to a year");
        }
        let webhook = &self.webhook;
        if self.executor == Executor::Webhook && webhook.url.is_none() {
            return Err("market.executor is `webhook`: set market.webhook.url");
        }
        if !(1..=MOST_ATTEMPTS).contains(&webhook.attempts) {
            return Err("market.webhook.attempts must be from 1 to 10");
        }
        if webhook.timeout.is_zero() || webhook.timeout > LONGEST_REQUEST {
            return Err("market.webhook.timeout must be above zero and at most a minute");
        }
        if webhook.retry_delay > LONGEST_REQUEST {
            return Err("market.webhook.retry_delay is over a minute");
        }
        if webhook.reconcile_after.is_zero() || webhook.reconcile_after > LONGEST {
            return Err("market.webhook.reconcile_after must be above zero and at most a year");
        }
        Ok(())
    }
}

fn parse(price: &str) -> Option<(&str, f64)> {
    let (symbol, price) = price.rsplit_once('=')?;
    let price = exact_number(price.trim())?;
    let symbol = symbol.trim();
    (!symbol.is_empty() && price > 0.0).then_some((symbol, price))
}

/// Parses a decimal number as a double.
///
/// Returns `None` for a text that is not a finite decimal number, and for a number that a double
/// cannot hold exactly. That is the case if printing the double results in other digits or another
/// magnitude.
pub(crate) fn exact_number(text: &str) -> Option<f64> {
    if !text.starts_with(|c: char| c == '-' || c.is_ascii_digit()) {
        return None;
    }
    let number: f64 = text
        .parse()
        .ok()
        .filter(|number: &f64| number.is_finite())?;
    // A double may have two shortest texts that are equally close. `serde_json` writes the numbers
    // for clients, so its choice decides, not that of the standard library.
    let printed = serde_json::to_string(&number).ok()?;
    (digits(text)? == digits(&printed)?).then_some(number)
}

/// Returns the significant digits of a decimal number, and the power of ten of the last digit. For
/// zero, the digits are empty.
fn digits(text: &str) -> Option<(String, i64)> {
    let text = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = format!("{whole}{fraction}");
    let significant = all.trim_start_matches('0').trim_end_matches('0');
    if significant.is_empty() {
        return Some((String::new(), 0));
    }
    let zeros = all.len() - all.trim_end_matches('0').len();
    let places = i64::try_from(zeros).ok()? - i64::try_from(fraction.len()).ok()?;
    let power = exponent.parse::<i64>().ok()?.checked_add(places)?;
    Some((significant.to_owned(), power))
}

/// Section `[notifications]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Notifications {
    /// After a notification is sent to a user, further ones are collected for this time and sent as
    /// one event. Urgent notifications are sent immediately. Zero disables batching. Default 1 s.
    #[serde(with = "humantime_serde")]
    pub window: Duration,
    /// Default expiry of an unacknowledged notification. Default 30 days.
    #[serde(with = "super::days")]
    pub expiry: Duration,
    /// Maximum number of unacknowledged notifications that services have sent to a user. If it is
    /// reached, new ones are refused. Mentions do not count. Default 200.
    pub per_user: u32,
    /// Maximum number of unacknowledged urgent notifications that services may send in addition to
    /// `per_user`. Default 50.
    pub urgent_reserve: u32,
    /// Maximum number of unacknowledged mention notifications of a user. If it is reached, a new
    /// mention replaces the oldest. Default 100.
    pub mentions: u32,
    /// How long an acknowledged notification stays in its user's history. Default 30 days.
    #[serde(with = "super::days")]
    pub history: Duration,
    /// Whether every connection is subscribed to its user's notifications when it connects. Default
    /// `false`.
    pub on_connect: bool,
}

impl Default for Notifications {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(1),
            expiry: Duration::from_secs(30 * 86_400),
            per_user: 200,
            urgent_reserve: 50,
            mentions: 100,
            history: Duration::from_secs(30 * 86_400),
            on_connect: false,
        }
    }
}

impl Notifications {
    /// Returns the maximum number of unacknowledged notifications that services may send to a user.
    pub(crate) fn most_sent(&self, is_urgent: bool) -> u32 {
        let reserve = if is_urgent { self.urgent_reserve } else { 0 };
        self.per_user.saturating_add(reserve)
    }

    /// Returns the maximum number of unacknowledged notifications of a user.
    pub(crate) fn most_open(&self) -> usize {
        self.most_sent(true).saturating_add(self.mentions) as usize
    }

    pub(super) fn check(&self) -> Result<(), &'static str> {
        if self.window > LONGEST_REQUEST {
            return Err("notifications.window is over a minute");
        }
        if self.expiry.is_zero() || self.expiry > LONGEST {
            return Err("notifications.expiry must be above zero and at most a year");
        }
        if self.per_user == 0 || self.per_user > MOST_OPEN {
            return Err("notifications.per_user must be from 1 to 1000");
        }
        if self.history < SHORTEST_RETENTION || self.history > LONGEST {
            return Err("notifications.history must be from an hour to a year");
        }
        if self.urgent_reserve > MOST_OPEN {
            return Err("notifications.urgent_reserve must be at most 1000");
        }
        if self.mentions == 0 || self.mentions > MOST_OPEN {
            return Err("notifications.mentions must be from 1 to 1000");
        }
        Ok(())
    }
}

const LONGEST: Duration = Duration::from_secs(366 * 86_400);
const LONGEST_REQUEST: Duration = Duration::from_secs(60);
/// Minimum retention of closed entries, so that a repeated publication is recognized.
const SHORTEST_RETENTION: Duration = Duration::from_secs(3600);
/// Minimum expiry of prices. It exceeds the time to store a batch of prices.
const SHORTEST_EXPIRY: Duration = Duration::from_secs(1);
const MOST_ATTEMPTS: u32 = 10;
/// Maximum number of open entries in a snapshot.
const MOST_OPEN: u32 = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_is_a_symbol_and_a_number_above_zero() {
        let market = |prices: &[&str]| Market {
            prices: prices.iter().map(|&price| price.into()).collect(),
            ..Market::default()
        };
        let good = market(&["AAPL=190.5", "EUR/USD = 1.08", "A=B=2"]);
        assert_eq!(good.check(), Ok(()));
        assert_eq!(good.price("AAPL"), Some(190.5));
        assert_eq!(good.price("EUR/USD"), Some(1.08));
        assert_eq!(good.price("A=B"), Some(2.0));
        assert_eq!(good.price("A"), None);
        for wrong in [
            "AAPL",
            "=1",
            "AAPL=",
            "AAPL=0",
            "AAPL=-1",
            "AAPL=inf",
            "AAPL=NaN",
            "AAPL=0.12345678901234567",
        ] {
            assert!(market(&[wrong]).check().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_number_is_exact_if_its_digits_survive_a_double() {
        for (text, number) in [
            ("0", 0.0),
            ("-0.0", -0.0),
            ("0e999999999999999999999", 0.0),
            ("100", 100.0),
            ("100.0", 100.0),
            ("1e2", 100.0),
            ("1.00E+2", 100.0),
            // This is how JavaScript and Python print it; 962657984697635.3 is equally close.
            ("962657984697635.2", 962_657_984_697_635.2),
            ("0.1", 0.1),
            ("-190.50", -190.5),
            ("0.30000000000000004", 0.1 + 0.2),
            ("123456.789012345", 123_456.789_012_345),
            ("9007199254740992", 9_007_199_254_740_992.0),
            ("5e-324", 5e-324),
        ] {
            let read = exact_number(text).map(f64::to_bits);
            assert_eq!(read, Some(f64::to_bits(number)), "{text}");
        }
        for text in [
            "9007199254740993",
            "0.1000000000000000055511151231257827",
            "0.12345678901234567",
            "1.00000000000000001",
            "1e-400",
            "1e400",
            "1e99999999999999999999",
            "inf",
            "-inf",
            "NaN",
            "+1",
            "",
            "-",
            "1x",
        ] {
            assert_eq!(exact_number(text), None, "{text}");
        }
    }

    #[test]
    fn price_interval_is_at_most_one_minute() {
        let market = |price_interval| Market {
            price_interval,
            ..Market::default()
        };
        for good in [Duration::ZERO, LONGEST_REQUEST] {
            assert_eq!(market(good).check(), Ok(()));
        }
        let long = LONGEST_REQUEST + Duration::from_millis(1);
        let fault = market(long).check().unwrap_err();
        assert!(fault.contains("market.price_interval"), "{fault}");
    }

    #[test]
    fn symbols_expire_after_a_second_to_a_year() {
        let market = |symbol_expiry| Market {
            symbol_expiry,
            ..Market::default()
        };
        for good in [SHORTEST_EXPIRY, LONGEST] {
            assert_eq!(market(good).check(), Ok(()));
        }
        for wrong in [Duration::ZERO, LONGEST + Duration::from_secs(1)] {
            let fault = market(wrong).check().unwrap_err();
            assert!(fault.contains("market.symbol_expiry"), "{fault}");
        }
    }

    #[test]
    fn market_webhook_does_not_print_its_secret() {
        let webhook = Webhook {
            url: Some("https://u:canary@broker.example/trades?key=canary".into()),
            token: Some(Secret::from("canary".to_owned())),
            ..Webhook::default()
        };
        let market = Market {
            webhook,
            ..Market::default()
        };
        let shown = toml::to_string(&market.shown()).unwrap();
        assert!(!shown.contains("canary"), "{shown}");
    }
}
