//! The signature that proves the origin of a delivery.
//!
//! Its form is `t=SECONDS,v1=HEX`. The digits are the HMAC-SHA256 (RFC 2104) of the time, a dot and
//! the body.

use ring::hmac;

use crate::config::Secret;
use crate::metrics::hex;

/// The signing keys. Each of them signs each delivery.
pub(in crate::service) struct Signer(Vec<hmac::Key>);

impl Signer {
    /// Creates the keys of the present and the previous secret.
    pub(in crate::service) fn new(secrets: [&Option<Secret>; 2]) -> Self {
        let keys = secrets.into_iter().flatten();
        Self(
            keys.map(|secret| hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes()))
                .collect(),
        )
    }

    /// Returns the signature header of a delivery sent at `time`, in seconds since 1970.
    pub(in crate::service) fn header(&self, time: i64, body: &str) -> String {
        let mut header = format!("t={time}");
        for key in &self.0 {
            let mut context = hmac::Context::with_key(key);
            // The dot separates the time from a body that starts with digits.
            context.update(format!("{time}.").as_bytes());
            context.update(body.as_bytes());
            header.push_str(",v1=");
            header.push_str(&hex(context.sign()));
        }
        header
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delivery_is_signed_with_both_secrets_during_rotation() {
        let secret = |text: &str| Some(Secret::from(text.to_owned()));
        let present = secret("0123456789abcdef");
        let header =
            |previous| Signer::new([&present, previous]).header(1_700_000_000, "{\"a\":1}");
        // printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac 0123456789abcdef
        let one =
            "t=1700000000,v1=9eb18f493f8ec135d9eb2dad817c369bb4e9cbfa818657897a7437c1cd8c3a23";
        assert_eq!(header(&None), one);
        let both =
            format!("{one},v1=b32c46cc98bca64571d8fd1f15c9c2c492dd6883b977ebc5c859dd995d9d12ea");
        assert_eq!(header(&secret("fedcba9876543210")), both);
    }
}
