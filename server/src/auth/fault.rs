//! Why credentials are not accepted.

use std::fmt;

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident => $reason:literal, $counter:ident;)+) => {
        /// Why credentials are not accepted. For logs and metrics: a client learns no more than
        /// that they are not.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum AuthFault {
            $($(#[$doc])* $name,)+
        }

        impl AuthFault {
            /// All faults.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The reason in a few words, free of anything that the client sent.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $reason,)+
                }
            }


            pub(crate) const fn counter(self) -> crate::metrics::Counter {
                match self {
                    $(Self::$name => crate::metrics::Counter::$counter,)+
                }
            }
        }
    };
}

faults! {
    /// Nothing was offered.
    Missing => "no credentials", AuthMissing;
    /// What was offered is not of the shape it should have, or there are two of it.
    Malformed => "malformed credentials", AuthMalformed;
    /// The token is a cookie, and the page that sent the request may not use cookies, or does not
    /// say which page it is.
    Origin => "cookie of an origin that is not allowed", AuthOrigin;
    /// The token is longer than the limit.
    TooLong => "token too long", AuthTooLong;
    /// The token does not consist of three parts of base64url, or they are malformed.
    NotAToken => "not a token", AuthMalformed;
    /// `alg` is `none`, or an algorithm that is not supported.
    Algorithm => "algorithm not supported", AuthAlgorithm;
    /// `alg` is not the algorithm that the key is for.
    AlgorithmMismatch => "algorithm is not the key's", AuthAlgorithm;
    /// `crit` asks for an extension (RFC 7515, 4.1.11).
    Critical => "critical header parameters not supported", AuthAlgorithm;
    /// There are no keys.
    NoKeys => "no keys are configured", AuthUnknownKey;
    /// No key has this `kid`.
    UnknownKey => "unknown kid", AuthUnknownKey;
    /// Two keys have this `kid`.
    DuplicateKey => "duplicated kid", AuthUnknownKey;
    /// There is more than one key, and no `kid` says which it is.
    NoKeyId => "no kid", AuthUnknownKey;
    /// The signature is not the key's.
    Signature => "wrong signature", AuthSignature;
    /// The claims are not an object, or one of them is not of its type.
    Claims => "malformed claims", AuthMalformed;
    /// There is no `exp`.
    NoExpiry => "no exp", AuthClaims;
    /// `exp` or `nbf` is not a number.
    NotANumber => "exp or nbf is not a number", AuthClaims;
    /// `exp` has passed.
    Expired => "expired", AuthExpired;
    /// `nbf` has not come.
    NotYetValid => "not yet valid", AuthClaims;
    /// There is no numeric `iat`, without which nobody knows how long the token lives.
    NoIssuedAt => "no iat", AuthClaims;
    /// From `iat` to `exp` it is longer than tokens may live, or `iat` has not come.
    TooLongLived => "valid for longer than allowed", AuthClaims;
    /// `iss` is not the configured one.
    Issuer => "wrong issuer", AuthClaims;
    /// `aud` does not have the configured one.
    Audience => "wrong audience", AuthClaims;
    /// `sub` is missing or no user's id.
    Subject => "no usable sub", AuthClaims;
    /// The token, the login, the user or one of the roles has been revoked.
    Revoked => "revoked", AuthRevoked;
    /// No login has this id.
    UnknownLogin => "unknown session", AuthUnknownLogin;
    /// The login has ended.
    LoginExpired => "session expired", AuthExpired;
    /// The store could not say whether there is such a login.
    Unavailable => "the store is not available", AuthUnavailable;
    /// The backend's record of the user is invalid. Trying again does not help.
    UserRecord => "invalid user record of the backend", AuthMalformed;
    /// The backend did not say whose session it is.
    BackendUnavailable => "the backend does not answer", AuthUnavailable;
}

impl AuthFault {
    /// Whether it tells against whoever offered the credentials. Nobody is blamed who offers none,
    /// whose browser sent a cookie for a page of somebody else's, or who comes while it is the
    /// server that cannot tell.
    #[must_use]
    pub(crate) const fn is_blamed(self) -> bool {
        !matches!(
            self,
            Self::Missing
                | Self::Origin
                | Self::NoKeys
                | Self::Unavailable
                | Self::UserRecord
                | Self::BackendUnavailable
        )
    }
}

impl fmt::Display for AuthFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::error::Error for AuthFault {}

#[cfg(test)]
mod tests {
    use super::AuthFault;

    #[test]
    fn nobody_is_blamed_for_what_is_not_in_the_credentials() {
        let excused: Vec<_> = AuthFault::ALL
            .iter()
            .filter(|fault| !fault.is_blamed())
            .collect();
        assert_eq!(
            excused,
            [
                &AuthFault::Missing,
                &AuthFault::Origin,
                &AuthFault::NoKeys,
                &AuthFault::Unavailable,
                &AuthFault::UserRecord,
                &AuthFault::BackendUnavailable
            ]
        );
    }
}
