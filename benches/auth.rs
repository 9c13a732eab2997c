//! What identity costs: a token at connect (goal: ≤ 30 µs), and a permission at each event (goal:
//! ≤ 200 ns).

#![allow(missing_docs, clippy::unwrap_used, reason = "a bench")]

use std::{hint::black_box, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use criterion::{Criterion, criterion_group, criterion_main};
use futures_util::FutureExt as _;
use roomcast::auth::{JwtAuthenticator, Keys, Permission, Principal, Revocations, Revoked, Roles};
use roomcast::config::Auth;

const SECRET: &[u8] = b"a secret of at least thirty-two bytes";

fn token() -> String {
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
    let exp = jiff::Timestamp::now().as_second() + 3600;
    let claims = format!(
        r#"{{"sub":"ann","name":"Ann","roles":["user","coach"],"jti":"t1","iss":"id","exp":{exp}}}"#
    );
    let message = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims));
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, SECRET);
    let signature = ring::hmac::sign(&key, message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// As many as a busy server may have.
fn revocations() -> Arc<Revocations> {
    let revocations = Revocations::new();
    let until = jiff::Timestamp::now() + Duration::from_secs(3600);
    for n in 0..10_000 {
        let revoked = Revoked::Token(format!("revoked {n}"));
        revocations.insert(&revoked, until).unwrap();
    }
    Arc::new(revocations)
}

fn tokens(bench: &mut Criterion) {
    let tokens = JwtAuthenticator::from_keys(Keys::from_secret(SECRET))
        .issuer("id")
        .revocations(revocations());
    let (good, forged) = (token(), format!("{}A", token()));
    let verify = |token: &str| tokens.verify(token).now_or_never().unwrap();
    assert!(verify(&good).is_ok() && verify(&forged).is_err());
    bench.bench_function("auth/hs256", |b| b.iter(|| verify(black_box(&good))));
    bench.bench_function("auth/hs256_forged", |b| {
        b.iter(|| verify(black_box(&forged)))
    });
    let principal = verify(&good).unwrap();
    bench.bench_function("auth/revalidate", |b| {
        b.iter(|| tokens.revalidate(black_box(&principal)));
    });
}

fn permissions(bench: &mut Criterion) {
    let roles = Roles::new(&Auth::default().roles, 10_000, Arc::default()).unwrap();
    let people: Vec<_> = (0..1000)
        .map(|n| {
            Principal::new(format!("user {n}"))
                .with_role("user")
                .with_role("coach")
        })
        .collect();
    let mut turn = people.iter().cycle();
    bench.bench_function("auth/permission", |b| {
        b.iter(|| roles.allow(black_box(turn.next().unwrap()), Permission::ChatSend));
    });
}

criterion_group!(benches, tokens, permissions);
criterion_main!(benches);
