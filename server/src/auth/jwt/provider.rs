//! The cryptography provider of `jsonwebtoken`, implemented with `ring`.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a table lists only the algorithms that it supports"
)]

use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind, EncodingKey,
    crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils},
    errors::{ErrorKind, Result},
    signature::{self, Signer, Verifier},
};
use ring::{hmac, rand::SystemRandom, signature as sign};

/// Installs `ring` as the provider of `jsonwebtoken`, unless the process already has another one.
pub(super) fn install() {
    // An already installed provider can verify and sign as well.
    let _ = PROVIDER.install_default();
}

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: signer,
    verifier_factory: verifier,
    // Only needed to create JWKs from keys, which this server never does.
    key_utils: KeyUtils::new_unimplemented(),
};

/// A key and the only algorithm that it is used with.
struct AlgorithmKey<K> {
    algorithm: Algorithm,
    key: K,
}

fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>> {
    check_family(*algorithm, key.family())?;
    Ok(Box::new(AlgorithmKey {
        algorithm: *algorithm,
        key: key.clone(),
    }))
}

fn signer(algorithm: &Algorithm, key: &EncodingKey) -> Result<Box<dyn JwtSigner>> {
    check_family(*algorithm, key.family())?;
    Ok(Box::new(AlgorithmKey {
        algorithm: *algorithm,
        key: key.clone(),
    }))
}

/// Refuses to use a public key as a secret, whatever a token's header specifies.
fn check_family(algorithm: Algorithm, family: AlgorithmFamily) -> Result<()> {
    if algorithm.family() == family {
        Ok(())
    } else {
        Err(ErrorKind::InvalidKeyFormat.into())
    }
}

impl Verifier<Vec<u8>> for AlgorithmKey<DecodingKey> {
    fn verify(
        &self,
        message: &[u8],
        signature: &Vec<u8>,
    ) -> std::result::Result<(), signature::Error> {
        let fault = |_| signature::Error::new();
        if let Some(algorithm) = hmac_of(self.algorithm) {
            let secret = self.key.try_get_as_bytes().map_err(other)?;
            let key = hmac::Key::new(algorithm, secret);
            // `ring` compares in constant time.
            return hmac::verify(&key, message, signature).map_err(fault);
        }
        match (self.key.kind(), rsa_of(self.algorithm)) {
            (DecodingKeyKind::RsaModulusExponent { n, e }, Some(algorithm)) => {
                let key = sign::RsaPublicKeyComponents { n, e };
                key.verify(algorithm, message, signature).map_err(fault)
            }
            (DecodingKeyKind::SecretOrDer(key), rsa) => {
                let algorithm: &'static dyn sign::VerificationAlgorithm =
                    match (rsa, curve_of(self.algorithm)) {
                        (Some(rsa), _) => rsa,
                        (None, Some(curve)) => curve,
                        (None, None) => return Err(signature::Error::new()),
                    };
                let key = sign::UnparsedPublicKey::new(algorithm, key);
                key.verify(message, signature).map_err(fault)
            }
            (DecodingKeyKind::RsaModulusExponent { .. }, None) => Err(signature::Error::new()),
        }
    }
}

impl JwtVerifier for AlgorithmKey<DecodingKey> {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

impl Signer<Vec<u8>> for AlgorithmKey<EncodingKey> {
    fn try_sign(&self, message: &[u8]) -> std::result::Result<Vec<u8>, signature::Error> {
        let key = self.key.as_bytes();
        if let Some(algorithm) = hmac_of(self.algorithm) {
            let key = hmac::Key::new(algorithm, key);
            return Ok(hmac::sign(&key, message).as_ref().to_vec());
        }
        let random = SystemRandom::new();
        let fault = |_| signature::Error::new();
        match self.algorithm {
            Algorithm::ES256 | Algorithm::ES384 => {
                let algorithm = if self.algorithm == Algorithm::ES256 {
                    &sign::ECDSA_P256_SHA256_FIXED_SIGNING
                } else {
                    &sign::ECDSA_P384_SHA384_FIXED_SIGNING
                };
                let pair =
                    sign::EcdsaKeyPair::from_pkcs8(algorithm, key, &random).map_err(other)?;
                let signature = pair.sign(&random, message).map_err(fault)?;
                Ok(signature.as_ref().to_vec())
            }
            Algorithm::EdDSA => {
                let pair = sign::Ed25519KeyPair::from_pkcs8_maybe_unchecked(key).map_err(other)?;
                Ok(pair.sign(message).as_ref().to_vec())
            }
            _ => {
                let padding: &'static dyn sign::RsaEncoding = match self.algorithm {
                    Algorithm::RS256 => &sign::RSA_PKCS1_SHA256,
                    Algorithm::RS384 => &sign::RSA_PKCS1_SHA384,
                    Algorithm::RS512 => &sign::RSA_PKCS1_SHA512,
                    Algorithm::PS256 => &sign::RSA_PSS_SHA256,
                    Algorithm::PS384 => &sign::RSA_PSS_SHA384,
                    Algorithm::PS512 => &sign::RSA_PSS_SHA512,
                    _ => return Err(signature::Error::new()),
                };
                let pair = sign::RsaKeyPair::from_der(key).map_err(other)?;
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(padding, &random, message, &mut signature)
                    .map_err(fault)?;
                Ok(signature)
            }
        }
    }
}

impl JwtSigner for AlgorithmKey<EncodingKey> {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

fn hmac_of(algorithm: Algorithm) -> Option<hmac::Algorithm> {
    match algorithm {
        Algorithm::HS256 => Some(hmac::HMAC_SHA256),
        Algorithm::HS384 => Some(hmac::HMAC_SHA384),
        Algorithm::HS512 => Some(hmac::HMAC_SHA512),
        _ => None,
    }
}

fn rsa_of(algorithm: Algorithm) -> Option<&'static sign::RsaParameters> {
    match algorithm {
        Algorithm::RS256 => Some(&sign::RSA_PKCS1_2048_8192_SHA256),
        Algorithm::RS384 => Some(&sign::RSA_PKCS1_2048_8192_SHA384),
        Algorithm::RS512 => Some(&sign::RSA_PKCS1_2048_8192_SHA512),
        Algorithm::PS256 => Some(&sign::RSA_PSS_2048_8192_SHA256),
        Algorithm::PS384 => Some(&sign::RSA_PSS_2048_8192_SHA384),
        Algorithm::PS512 => Some(&sign::RSA_PSS_2048_8192_SHA512),
        _ => None,
    }
}

fn curve_of(algorithm: Algorithm) -> Option<&'static dyn sign::VerificationAlgorithm> {
    match algorithm {
        Algorithm::ES256 => Some(&sign::ECDSA_P256_SHA256_FIXED),
        Algorithm::ES384 => Some(&sign::ECDSA_P384_SHA384_FIXED),
        Algorithm::EdDSA => Some(&sign::ED25519),
        _ => None,
    }
}

fn other<E>(_: E) -> signature::Error {
    signature::Error::new()
}
