use serde_json::{Value, json};

use super::*;
use crate::auth::Revoked;

const SECRET: &[u8] = b"a secret of at least thirty-two bytes";

fn now() -> i64 {
    Timestamp::now().as_second()
}

fn encode(json: &Value) -> String {
    URL_SAFE_NO_PAD.encode(json.to_string())
}

/// Returns a token with any header and claims, signed with HMAC-SHA256 of the secret.
fn forge(header: &Value, claims: &Value, secret: &[u8]) -> String {
    let message = format!("{}.{}", encode(header), encode(claims));
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret);
    let signature = ring::hmac::sign(&key, message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn token(claims: &Value) -> String {
    forge(&json!({"alg": "HS256", "typ": "JWT"}), claims, SECRET)
}

fn claims() -> Value {
    json!({"sub": "ann", "exp": now() + 60})
}

fn with(key: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[key] = value;
    claims
}

fn tokens() -> JwtAuthenticator {
    JwtAuthenticator::from_keys(Keys::from_secret(SECRET))
}

fn verify(token: &str) -> Result<Principal, AuthFault> {
    tokens().verify_now(token)
}

#[test]
fn a_valid_token_becomes_a_principal() {
    let exp = now() + 60;
    let principal = verify(&token(&json!({
        "sub": "ann", "name": "Ann", "roles": ["coach", "user"], "jti": "t1", "sid": "s1", "exp": exp,
    })));
    let principal = principal.unwrap();
    assert_eq!(
        (principal.subject.as_str(), principal.name.as_str()),
        ("ann", "Ann")
    );
    assert_eq!(principal.roles, ["coach", "user"]);
    assert_eq!(principal.token_id.as_deref(), Some("t1"));
    assert_eq!(principal.session, Some(crate::auth::secret_hash("s1")));
    assert_eq!(
        principal.expires_at,
        Some(Timestamp::from_second(exp).unwrap().into())
    );
    let plain = verify(&token(&claims())).unwrap();
    assert_eq!(
        (plain.name.as_str(), plain.roles.as_slice()),
        ("ann", &["user".to_owned()][..])
    );
}

#[test]
fn f2_only_the_algorithm_of_the_key_is_accepted() {
    for (header, fault) in [
        (json!({"alg": "none"}), AuthFault::Algorithm),
        (json!({"alg": "None"}), AuthFault::Algorithm),
        (json!({"alg": ""}), AuthFault::Algorithm),
        (json!({"alg": "HS384"}), AuthFault::AlgorithmMismatch),
        (json!({"alg": "RS256"}), AuthFault::AlgorithmMismatch),
        (json!({"alg": "ES256"}), AuthFault::AlgorithmMismatch),
        (
            json!({"alg": "HS256", "crit": ["exp"]}),
            AuthFault::Critical,
        ),
        (
            json!({"alg": "HS256", "kid": "other"}),
            AuthFault::UnknownKey,
        ),
        (json!({"alg": "HS256", "kid": 7}), AuthFault::NotAToken),
        (json!({"typ": "JWT"}), AuthFault::NotAToken),
    ] {
        assert_eq!(
            verify(&forge(&header, &claims(), SECRET)),
            Err(fault),
            "{header}"
        );
    }
    // The signature is missing.
    let unsigned = format!("{}.{}.", encode(&json!({"alg": "none"})), encode(&claims()));
    assert_eq!(verify(&unsigned), Err(AuthFault::Algorithm));
    let unsigned = format!(
        "{}.{}.",
        encode(&json!({"alg": "HS256"})),
        encode(&claims())
    );
    assert_eq!(verify(&unsigned), Err(AuthFault::Signature));
}

/// An attacker knows the modulus of a public 2,048-bit RSA key.
#[test]
fn f2_public_key_is_not_accepted_as_hmac_secret() {
    let n = URL_SAFE_NO_PAD.encode([0xc5; 256]);
    let set = json!({"keys": [{"kty": "RSA", "kid": "r", "alg": "RS256", "n": n, "e": "AQAB"}]});
    let tokens = JwtAuthenticator::from_keys(Keys::from_jwks(&set.to_string()).unwrap());
    for secret in [n.as_bytes(), &[0xc5; 256], set.to_string().as_bytes()] {
        let token = forge(&json!({"alg": "HS256", "kid": "r"}), &claims(), secret);
        assert_eq!(tokens.verify_now(&token), Err(AuthFault::AlgorithmMismatch));
    }
    let pem = b"-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----";
    assert_eq!(
        Keys::from_secret_for(pem, "HS256").unwrap_err(),
        KeysError::PublicSecret
    );
}

#[test]
fn f3_token_times_are_required_and_numeric() {
    for (claims, fault) in [
        (json!({"sub": "ann"}), AuthFault::NoExpiry),
        (with("exp", Value::Null), AuthFault::NoExpiry),
        (with("exp", json!("never")), AuthFault::NotANumber),
        (with("exp", json!("99999999999")), AuthFault::NotANumber),
        (with("exp", json!([now() + 60])), AuthFault::NotANumber),
        (with("exp", json!(true)), AuthFault::NotANumber),
        (with("exp", json!(now() - 31)), AuthFault::Expired),
        (with("exp", json!(-1)), AuthFault::Expired),
        (with("exp", json!(0)), AuthFault::Expired),
        (with("nbf", json!(now() + 40)), AuthFault::NotYetValid),
        (with("nbf", json!("99999999999")), AuthFault::NotANumber),
        (
            json!({"sub": "krishna", "nbf": "99999999999", "exp": 10_000_000_000_u64}),
            AuthFault::NotANumber,
        ),
    ] {
        assert_eq!(verify(&token(&claims)), Err(fault), "{claims}");
    }
    for claims in [
        with("exp", json!(now() - 20)),
        with("exp", json!((now() + 60) as f64 + 0.5)),
        with("exp", json!(1e300)),
        with("exp", json!(u64::MAX)),
        with("nbf", json!(now() + 20)),
    ] {
        assert!(verify(&token(&claims)).is_ok(), "{claims}");
    }
}

#[test]
fn token_lifetime_is_limited_from_its_issue_time() {
    let tokens = tokens().max_lifetime(Duration::from_secs(60));
    let verify = |iat: Value, exp: i64| {
        let mut claims = with("iat", iat);
        claims["exp"] = json!(exp);
        tokens.verify_now(&token(&claims)).map(|_| ())
    };
    let now = now();
    assert_eq!(verify(json!(now), now + 60), Ok(()));
    assert_eq!(verify(json!(now - 50), now + 10), Ok(()));
    assert_eq!(verify(json!(now + 20), now + 80), Ok(()));
    let long = Err(AuthFault::TooLongLived);
    assert_eq!(verify(json!(now), now + 61), long);
    // The token was created long ago, and is valid only for a moment longer.
    assert_eq!(verify(json!(now - 3600), now + 10), long);
    // The token claims to be created tomorrow.
    assert_eq!(verify(json!(now + 86_400), now + 86_460), long);
    for iat in [Value::Null, json!("now"), json!([now])] {
        assert_eq!(verify(iat, now + 10), Err(AuthFault::NoIssuedAt));
    }
    assert_eq!(verify(json!(i64::MIN), i64::MAX), long);
}

#[test]
fn issuer_and_audience_are_required_when_configured() {
    let tokens = tokens().issuer("id").audience("chat");
    let claims = |iss: Value, aud: Value| {
        let mut claims = with("iss", iss);
        claims["aud"] = aud;
        tokens.verify_now(&token(&claims)).map(|_| ())
    };
    assert_eq!(claims(json!("id"), json!("chat")), Ok(()));
    assert_eq!(claims(json!("id"), json!(["x", "chat"])), Ok(()));
    assert_eq!(
        claims(json!("other"), json!("chat")),
        Err(AuthFault::Issuer)
    );
    assert_eq!(claims(Value::Null, json!("chat")), Err(AuthFault::Issuer));
    assert_eq!(
        claims(json!("id"), json!("other")),
        Err(AuthFault::Audience)
    );
    assert_eq!(claims(json!("id"), json!([])), Err(AuthFault::Audience));
    assert_eq!(claims(json!("id"), Value::Null), Err(AuthFault::Audience));
    assert_eq!(claims(json!("id"), json!(7)), Err(AuthFault::Audience));
    assert_eq!(claims(json!(["id"]), json!("chat")), Err(AuthFault::Issuer));
}

#[test]
fn subject_is_short_and_has_no_control_characters() {
    for sub in [
        json!(""),
        json!("x".repeat(129)),
        json!("a\nb"),
        json!("\u{1b}[31m"),
        Value::Null,
    ] {
        assert_eq!(verify(&token(&with("sub", sub))), Err(AuthFault::Subject));
    }
    assert!(verify(&token(&with("sub", json!("ä".repeat(128))))).is_ok());
}

#[test]
fn refusal_names_the_malformed_claim() {
    for (key, value, fault) in [
        ("sub", json!(7), AuthFault::Subject),
        ("name", json!({"first": "Ann"}), AuthFault::NameClaim),
        ("name", json!("a\u{0}"), AuthFault::NameClaim),
        ("name", json!("x".repeat(257)), AuthFault::NameClaim),
        ("roles", json!("admin"), AuthFault::RolesClaim),
        ("roles", json!([7]), AuthFault::RolesClaim),
        ("roles", json!(["a\nb"]), AuthFault::RolesClaim),
        ("roles", json!(vec!["r"; 33]), AuthFault::RolesClaim),
        ("jti", json!(7), AuthFault::TokenIdClaim),
        ("jti", json!(""), AuthFault::TokenIdClaim),
        ("sid", json!([]), AuthFault::SessionClaim),
        ("iss", json!({}), AuthFault::Issuer),
        ("aud", json!({}), AuthFault::Audience),
        ("channel", json!({"follow": 7}), AuthFault::ChannelClaim),
    ] {
        assert_eq!(verify(&token(&with(key, value))), Err(fault), "{key}");
    }
}

#[test]
fn malformed_tokens_are_refused() {
    let valid = token(&claims());
    let mut parts = valid.split('.');
    let (head, body) = (parts.next().unwrap(), parts.next().unwrap());
    let signature = parts.next().unwrap();
    for text in [
        String::new(),
        ".".into(),
        "..".into(),
        "a.b.c".into(),
        format!("{head}.{body}"),
        format!("{valid}.x"),
        format!("x.{valid}"),
        format!("{head}=.{body}.{signature}"),
    ] {
        assert_eq!(verify(&text), Err(AuthFault::NotAToken), "{text}");
    }
    for text in [
        format!("{head}.{body}.{signature}="),
        format!("{head}.{body}.{}", &signature[1..]),
        format!("{head}.{}.{signature}", encode(&with("sub", json!("bob")))),
    ] {
        assert_eq!(verify(&text), Err(AuthFault::Signature), "{text}");
    }
    for claims in [json!([]), json!("x"), Value::Null] {
        assert_eq!(verify(&token(&claims)), Err(AuthFault::Claims), "{claims}");
    }
}

#[test]
fn f2_token_over_the_size_limit_is_refused_before_parsing() {
    let long = token(&with("x", json!("x".repeat(100_000))));
    assert_eq!(verify(&long), Err(AuthFault::TooLong));
    assert_eq!(verify(&"x".repeat(8193)), Err(AuthFault::TooLong));
    assert_eq!(verify(&"x".repeat(8192)), Err(AuthFault::NotAToken));
}

#[test]
fn keys_are_selected_by_kid() {
    let secret = |kid: &str, secret: &[u8]| json!({"kty": "oct", "kid": kid, "k": URL_SAFE_NO_PAD.encode(secret)});
    let set = json!({"keys": [
        secret("a", b"key a"), secret("b", b"key b"), secret("twice", b"key c"), secret("twice", b"key d"),
        {"kty": "oct", "kid": "enc", "use": "enc", "k": "AAAA"},
        {"kty": "EC", "crv": "P-521", "kid": "large", "x": "AA", "y": "AA"},
        {"kty": "new", "kid": "new"},
    ]});
    let keys = Keys::from_jwks(&set.to_string()).unwrap();
    assert_eq!(
        (keys.len(), keys.duplicates().collect::<Vec<_>>()),
        (4, vec!["twice"])
    );
    let tokens = JwtAuthenticator::from_keys(keys);
    let verify = |header: Value, secret: &[u8]| {
        tokens
            .verify_now(&forge(&header, &claims(), secret))
            .map(|_| ())
    };
    let with = |kid: &str| json!({"alg": "HS256", "kid": kid});
    assert_eq!(verify(with("a"), b"key a"), Ok(()));
    assert_eq!(verify(with("b"), b"key b"), Ok(()));
    assert_eq!(verify(with("a"), b"key b"), Err(AuthFault::Signature));
    assert_eq!(verify(with("enc"), b"key a"), Err(AuthFault::UnknownKey));
    assert_eq!(verify(with("c"), b"key a"), Err(AuthFault::UnknownKey));
    for secret in [b"key c", b"key d"] {
        assert_eq!(verify(with("twice"), secret), Err(AuthFault::DuplicateKey));
    }
    assert_eq!(
        verify(json!({"alg": "HS256"}), b"key a"),
        Err(AuthFault::NoKeyId)
    );
    for none in [Keys::default(), Keys::none_yet()] {
        let none = JwtAuthenticator::from_keys(none);
        assert_eq!(none.verify_now(&token(&claims())), Err(AuthFault::NoKeys));
    }
}

#[test]
fn keys_of_one_source_never_disable_keys_of_another() {
    let set = |keys: &[(Option<&str>, &str)]| {
        let key = |(kid, secret): &(Option<&str>, &str)| json!({"kty": "oct", "kid": kid, "k": URL_SAFE_NO_PAD.encode(secret)});
        let keys: Vec<_> = keys.iter().map(key).collect();
        Keys::from_jwks(&json!({"keys": keys}).to_string()).unwrap()
    };
    let configured = Keys::from_secret(b"configured");
    let file = set(&[(Some("a"), "file a"), (None, "file nameless")]);
    let remote = set(&[
        (Some("a"), "remote a"),
        (None, "remote nameless"),
        (Some("b"), "remote b"),
    ]);
    for keys in [
        configured.clone().and(file.clone()).and(remote.clone()),
        remote.and(file).and(configured),
    ] {
        assert_eq!(keys.duplicates().count(), 0);
        let tokens = JwtAuthenticator::from_keys(keys);
        let verify = |kid: Option<&str>, secret: &str| {
            let header = match kid {
                Some(kid) => json!({"alg": "HS256", "kid": kid}),
                None => json!({"alg": "HS256"}),
            };
            let token = forge(&header, &claims(), secret.as_bytes());
            tokens.verify_now(&token).map(|_| ())
        };
        for (kid, secret) in [
            (None, "configured"),
            (None, "file nameless"),
            (None, "remote nameless"),
            (Some("a"), "file a"),
            (Some("a"), "remote a"),
            (Some("b"), "remote b"),
        ] {
            assert_eq!(verify(kid, secret), Ok(()), "{kid:?} {secret}");
        }
        assert_eq!(verify(Some("b"), "file a"), Err(AuthFault::Signature));
        assert_eq!(verify(None, "file a"), Err(AuthFault::Signature));
        assert_eq!(verify(Some("c"), "configured"), Err(AuthFault::UnknownKey));
    }
}

#[test]
fn unusable_key_sets_are_errors_and_empty_private_sets_are_valid() {
    let secret = r#"{"kty":"oct","k":"AAAA"}"#;
    let twice = r#"{"kty":"oct","kid":"a","k":"AAAA"}"#;
    for keys in [
        r#"{"kty":"new"}"#.to_owned(),
        r#"{"kty":"oct","use":"enc","k":"AAAA"}"#.to_owned(),
        format!("{twice},{twice}"),
        format!("{secret},{secret}"),
    ] {
        let set = format!(r#"{{"keys":[{keys}]}}"#);
        assert_eq!(
            Keys::from_jwks(&set).unwrap_err(),
            KeysError::NoneOfUse,
            "{set}"
        );
        let public = Keys::from_public_jwks(&set).unwrap_err();
        assert_eq!(public, KeysError::NoneOfUse, "{set}");
    }
    let empty = r#"{"keys":[]}"#;
    assert!(Keys::from_jwks(empty).unwrap().is_empty());
    for set in [empty.to_owned(), format!(r#"{{"keys":[{secret}]}}"#)] {
        let fault = Keys::from_public_jwks(&set).unwrap_err();
        assert_eq!(fault, KeysError::NoneOfUse, "{set}");
    }
}

#[test]
fn malformed_key_set_is_an_error_without_its_content() {
    for (set, error) in [
        ("", KeysError::NotASet),
        ("[]", KeysError::NotASet),
        (r#"{"keys":{}}"#, KeysError::NotASet),
        (r#"{"keys":[7]}"#, KeysError::Key(0)),
        (
            r#"{"keys":[{"kty":"oct","k":"AA"},{"kty":"oct"}]}"#,
            KeysError::Key(1),
        ),
        (r#"{"keys":[{"kty":"oct","k":""}]}"#, KeysError::Key(0)),
        (
            r#"{"keys":[{"kty":"RSA","n":"%%","e":"AQAB"}]}"#,
            KeysError::Key(0),
        ),
    ] {
        assert_eq!(Keys::from_jwks(set).unwrap_err(), error, "{set}");
    }
    let many = json!({"keys": vec![json!({"kty": "oct", "k": "AA"}); 101]});
    assert_eq!(
        Keys::from_jwks(&many.to_string()).unwrap_err(),
        KeysError::TooMany
    );
    let shown = format!("{:?}", Keys::from_secret(b"hidden"));
    assert!(!shown.contains("hidden"), "{shown}");
}

/// RFC 8037, appendix A: a key and a token from an independent implementation.
#[test]
fn the_signature_of_rfc_8037_is_verified() {
    let set = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
    let tokens = JwtAuthenticator::from_keys(Keys::from_jwks(set).unwrap());
    let token = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.\
        hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    // The payload is a sentence: the signature is valid, the claims are not.
    assert_eq!(tokens.verify_now(token), Err(AuthFault::Claims));
    let forged = token.replace("hgyY", "hgyZ");
    assert_eq!(tokens.verify_now(&forged), Err(AuthFault::Signature));
}

/// RFC 7515, appendix A.2 and A.3: keys and tokens from independent implementations. They expired
/// in 2011.
#[test]
fn the_signatures_of_rfc_7515_are_verified() {
    let claims = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let rsa = r#"{"keys":[{"kty":"RSA","e":"AQAB","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"}]}"#;
    let rs256 = format!(
        "eyJhbGciOiJSUzI1NiJ9.{claims}.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw"
    );
    let ec = r#"{"keys":[{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#;
    let es256 = format!(
        "eyJhbGciOiJFUzI1NiJ9.{claims}.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
    );
    for (set, token) in [(rsa, rs256), (ec, es256)] {
        let tokens = JwtAuthenticator::from_keys(Keys::from_jwks(set).unwrap());
        assert_eq!(tokens.verify_now(&token), Err(AuthFault::Expired));
        let forged = format!(
            "{}A{}",
            &token[..token.len() - 9],
            &token[token.len() - 8..]
        );
        assert_ne!(forged, token);
        assert_eq!(tokens.verify_now(&forged), Err(AuthFault::Signature));
    }
}

#[tokio::test]
async fn token_is_accepted_until_it_is_revoked() {
    let revocations = Arc::new(Revocations::new());
    let tokens = tokens().revocations(Arc::clone(&revocations));
    let token = token(&with("jti", json!("t1")));
    let principal = tokens.verify(&token).await.unwrap();
    assert_eq!(tokens.revalidate(&principal), Ok(()));
    let until = Timestamp::now() + Duration::from_secs(60);
    revocations
        .insert(&Revoked::Token("t1".into()), until)
        .unwrap();
    assert_eq!(tokens.verify(&token).await, Err(AuthFault::Revoked));
    assert_eq!(tokens.revalidate(&principal), Err(AuthFault::Revoked));
}

#[test]
fn minted_tokens_are_accepted_and_public_keys_cannot_mint() {
    let keys = Keys::from_secret_for(SECRET, "HS512").unwrap();
    let roles = ["admin".to_owned()];
    let minting = Minting {
        sub: "ann",
        name: None,
        roles: &roles,
        jti: "t1",
        iss: Some("id"),
        aud: None,
        iat: now(),
        exp: now() + 60,
    };
    let token = mint(&keys, &minting).unwrap();
    let principal = JwtAuthenticator::from_keys(keys)
        .issuer("id")
        .verify_now(&token)
        .unwrap();
    assert!(principal.has("admin") && principal.token_id.as_deref() == Some("t1"));
    let set = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
    assert!(mint(&Keys::from_jwks(set).unwrap(), &minting).is_none());
}
