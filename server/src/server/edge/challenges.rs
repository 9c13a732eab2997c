//! Answers to the challenges of a certificate authority, which the redirect listener serves.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;

/// The answers on offer, by token. Clones share them.
#[derive(Clone, Debug, Default)]
pub(in crate::server) struct Challenges(Arc<Mutex<HashMap<String, String>>>);

/// An answer on offer. Dropping it withdraws the answer.
#[cfg(feature = "acme")]
pub(super) struct Offer {
    challenges: Challenges,
    token: String,
}

/// The path of challenges (RFC 8555, 8.3).
const PATH: &str = "/.well-known/acme-challenge/";

impl Challenges {
    /// Returns the answer to a request for this path.
    pub(super) fn answer(&self, path: &str) -> Option<String> {
        let token = path.strip_prefix(PATH)?;
        self.0.lock().get(token).cloned()
    }

    /// Offers an answer.
    #[cfg(feature = "acme")]
    pub(super) fn offer(&self, token: &str, answer: &str) -> Offer {
        let (token, answer) = (token.to_owned(), answer.to_owned());
        self.0.lock().insert(token.clone(), answer);
        let challenges = self.clone();
        Offer { challenges, token }
    }
}

#[cfg(feature = "acme")]
impl Drop for Offer {
    fn drop(&mut self) {
        self.challenges.0.lock().remove(&self.token);
    }
}

#[cfg(all(test, feature = "acme"))]
mod tests {
    use super::*;

    #[test]
    fn answer_is_available_until_its_offer_ends() {
        let challenges = Challenges::default();
        let offer = challenges.offer("token", "token.thumbprint");
        let path = "/.well-known/acme-challenge/token";
        assert_eq!(challenges.answer(path).as_deref(), Some("token.thumbprint"));
        for other in [
            "/token",
            "/.well-known/acme-challenge/",
            "/.well-known/acme-challenge/other",
        ] {
            assert_eq!(challenges.answer(other), None, "{other}");
        }
        drop(offer);
        assert_eq!(challenges.answer(path), None);
    }
}
