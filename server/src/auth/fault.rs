//! The reasons why credentials are refused.

use std::fmt;

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident => $reason:literal, $counter:ident;)+) => {
        /// The reason why credentials are refused. It is for logs and metrics; clients do not learn
        /// it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum AuthFault {
            $($(#[$doc])* $name,)+
        }

        impl AuthFault {
            /// All faults.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// Returns a short reason that contains no client data.
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
    /// No credentials were offered.
    Missing => "no credentials", AuthMissing;
    /// The credentials have the wrong form or are duplicated.
    Malformed => "malformed credentials", AuthMalformed;
    /// The credentials are in a cookie, but the origin of the request is not allowed or missing.
    Origin => "cookie of an origin that is not allowed", AuthOrigin;
    /// The token is longer than the limit.
    TooLong => "token too long", AuthTooLong;
    /// The token does not consist of three valid base64url parts.
    NotAToken => "not a token", AuthMalformed;
    /// `alg` is `none` or not supported.
    Algorithm => "algorithm not supported", AuthAlgorithm;
    /// `alg` is not the algorithm of the key.
    AlgorithmMismatch => "algorithm is not the key's", AuthAlgorithm;
    /// `crit` requires an extension (RFC 7515, 4.1.11).
    Critical => "critical header parameters not supported", AuthAlgorithm;
    /// There are no keys.
    NoKeys => "no keys are configured", AuthUnknownKey;
    /// No key has this `kid`.
    UnknownKey => "unknown kid", AuthUnknownKey;
    /// Two keys have this `kid`.
    DuplicateKey => "duplicated kid", AuthUnknownKey;
    /// There are several keys, and the token has no `kid`.
    NoKeyId => "no kid", AuthUnknownKey;
    /// The signature does not match the key.
    Signature => "wrong signature", AuthSignature;
    /// The claims are not an object, or one of them is duplicated.
    Claims => "malformed claims", AuthMalformed;
    /// `name` is not a text, is too long, or has control characters.
    NameClaim => "malformed claim name", AuthMalformed;
    /// `roles` is not a list of names, or has too many.
    RolesClaim => "malformed claim roles", AuthMalformed;
    /// `jti` is not a text, is too long, or has control characters.
    TokenIdClaim => "malformed claim jti", AuthMalformed;
    /// `sid` is not a text, is too long, or has control characters.
    SessionClaim => "malformed claim sid", AuthMalformed;
    /// `channel` has a right, and another form than rights have.
    ChannelClaim => "malformed claim channel", AuthMalformed;
    /// There is no `exp`.
    NoExpiry => "no exp", AuthClaims;
    /// `exp` or `nbf` is not a number.
    NotANumber => "exp or nbf is not a number", AuthClaims;
    /// `exp` has passed.
    Expired => "expired", AuthExpired;
    /// `nbf` is in the future.
    NotYetValid => "not yet valid", AuthClaims;
    /// There is no numeric `iat`, which is needed to compute the lifetime of the token.
    NoIssuedAt => "no iat", AuthClaims;
    /// The time from `iat` to `exp` exceeds the maximum lifetime, or `iat` is in the future.
    TooLongLived => "valid for longer than allowed", AuthClaims;
    /// `iss` is not the configured issuer.
    Issuer => "wrong issuer", AuthClaims;
    /// `aud` does not contain the configured audience.
    Audience => "wrong audience", AuthClaims;
    /// `sub` is missing or not a valid user id.
    Subject => "no usable sub: a text of 1 to 128 characters", AuthClaims;
    /// The token is for channels where one for a user is needed, or the reverse.
    Purpose => "for another purpose", AuthClaims;
    /// The token, the login, the user or one of the roles is revoked.
    Revoked => "revoked", AuthRevoked;
    /// No login has this id.
    UnknownLogin => "unknown session", AuthUnknownLogin;
    /// The login has expired.
    LoginExpired => "session expired", AuthExpired;
    /// The store is unavailable, so the login cannot be looked up.
    Unavailable => "the store is not available", AuthUnavailable;
    /// The backend's record of the user is invalid. A retry does not help.
    UserRecord => "invalid user record of the backend", AuthMalformed;
    /// The backend did not return the user of the session.
    BackendUnavailable => "the backend does not answer", AuthUnavailable;
}

impl AuthFault {
    /// Returns whether the fault counts as a violation by the client.
    ///
    /// It does not if the client offered no credentials, if its browser sent a cookie for a page of
    /// another origin, or if the server cannot verify credentials.
    #[must_use]
    pub(crate) const fn is_violation(self) -> bool {
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
    fn faults_outside_the_credentials_are_no_violations() {
        let excused: Vec<_> = AuthFault::ALL
            .iter()
            .filter(|fault| !fault.is_violation())
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
