//! The cost of authentication: what a token adds to a connect (`auth/connect_hs256`, goal: ≤ 30
//! µs), and the permission check of each event (`auth/permission`, goal: ≤ 200 ns). Single-threaded
//! and without I/O, so that criterion measures CPU time.

#![allow(missing_docs, clippy::unwrap_used, reason = "a bench")]

use std::{hint::black_box, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use criterion::{Criterion, criterion_group, criterion_main};
use futures_util::FutureExt as _;
use roomcast_protocol::socket::{Args, Decoder, Limits};
use roomcast_server::auth::{
    Credentials, JwtAuthenticator, Keys, Permission, Principal, Revocations, Revoked, Roles,
};
use roomcast_server::config::Auth;

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

/// Returns as many revocations as a busy server may have.
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

/// Parses the payload of a CONNECT packet as the server does.
fn payload(packet: &bytes::Bytes) -> Args {
    let packet = Decoder::new(Limits::default()).text(packet.clone());
    packet.unwrap().unwrap().args
}

/// Measures the time from `0{"token":…}`, and from an `Authorization` header, to a principal.
/// Also measures a CONNECT without credentials, whose cost is not part of authentication.
fn connects(bench: &mut Criterion) {
    let tokens = JwtAuthenticator::from_keys(Keys::from_secret(SECRET))
        .issuer("id")
        .revocations(revocations());
    let (with, without) = (format!(r#"0{{"token":"{}"}}"#, token()), "0");
    let bearer = format!("Bearer {}", token());
    let address = [192, 0, 2, 1].into();
    let connect = |packet: &bytes::Bytes, authorization: Option<&str>| {
        let payload = payload(packet);
        let credentials = Credentials::new(&payload, address)
            .with_headers(authorization.map(str::as_bytes), None);
        tokens.principal(&credentials).now_or_never().unwrap()
    };
    let (with, without) = (bytes::Bytes::from(with), bytes::Bytes::from(without));
    assert!(connect(&with, None).is_ok() && connect(&without, None).is_err());
    bench.bench_function("auth/connect_hs256", |b| {
        b.iter(|| connect(black_box(&with), None));
    });
    bench.bench_function("auth/connect_hs256_bearer", |b| {
        b.iter(|| connect(black_box(&without), Some(black_box(&bearer))));
    });
    bench.bench_function("auth/connect_without", |b| {
        b.iter(|| connect(black_box(&without), None));
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
    assert!(
        people
            .iter()
            .all(|by| roles.allow(by, Permission::ChatSend))
    );
    let mut next_user = people.iter().cycle();
    bench.bench_function("auth/permission", |b| {
        b.iter(|| roles.allow(black_box(next_user.next().unwrap()), Permission::ChatSend));
    });
    // A user whose permissions are not cached: never checked, or evicted.
    let stranger = Principal::new("stranger").with_role("user");
    bench.bench_function("auth/permission_first", |b| {
        b.iter(|| {
            roles.forget(|subject, _| subject == "stranger");
            roles.allow(black_box(&stranger), Permission::ChatSend)
        });
    });
}

criterion_group!(benches, tokens, connects, permissions);
criterion_main!(benches);
