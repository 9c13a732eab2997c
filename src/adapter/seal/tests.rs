//! Tests of sealing and opening together.

use std::{fmt::Write as _, fs, path::Path};

use bytes::Bytes;
use proptest::prelude::*;

use super::{header::now, *};
use crate::adapter::{NodeId, Unopened, WireError};

fn secrets<const N: usize>(secrets: [u8; N]) -> Secrets {
    Secrets::new(secrets.map(|secret| [secret; 32])).unwrap()
}

fn purpose() -> Purpose {
    Purpose::new("test", "socket.io")
}

fn sealer(all: &Secrets) -> Sealer {
    Sealer::new(all, &purpose())
}

fn opener(all: &Secrets) -> Opener {
    Opener::new(all, &purpose())
}

#[track_caller]
fn refused(opener: &Opener, place: &[u8], message: &Bytes) -> Unopened {
    match opener.open(place, message.clone(), None) {
        Err(WireError::Unopened(why)) => why,
        other => panic!("{other:?}"),
    }
}

fn options(secrets: Secrets, accepts_plain: bool) -> SealOptions {
    SealOptions {
        secrets: Some(secrets),
        accepts_plain,
    }
}

#[test]
fn weak_secrets_are_refused() {
    let none: [&str; 0] = [];
    assert_eq!(Secrets::new(none).unwrap_err(), InvalidSecrets::Empty);
    let long = "x".repeat(32);
    let error = Secrets::new([&long, &"y".repeat(31)]).unwrap_err();
    let (number, bytes) = (2, 31);
    assert_eq!(error, InvalidSecrets::TooShort { number, bytes });
    assert_eq!(
        error.to_string(),
        "secret 2 has 31 bytes, too few: give at least 32"
    );
    let error = Secrets::new([&long, &long]).unwrap_err();
    assert_eq!(error, InvalidSecrets::Repeated(2));
    let many = |count: u8| Secrets::new((0..count).map(|number| [number; 32]));
    assert_eq!(many(17).unwrap_err(), InvalidSecrets::TooMany(17));
    assert_eq!(format!("{:?}", many(16).unwrap()), "Secrets(16)");
}

#[test]
fn derived_keys_differ_by_secret_and_purpose() {
    let all = secrets([1, 2]);
    let [forwarding, other] = ["forwarding", "other"].map(|purpose| all.derive(purpose));
    assert_eq!(forwarding.len(), 2);
    assert_eq!(forwarding, all.derive("forwarding"));
    let mut keys = [forwarding, other].concat();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), 4);
}

#[test]
fn a_sealed_message_hides_its_content_and_opens_once() {
    let all = secrets([1]);
    let (sealer, opener) = (sealer(&all), opener(&all));
    let sealed = sealer.seal(b"place", b"canary");
    assert_eq!(sealed.len(), OVERHEAD + 6);
    assert!(!sealed.windows(6).any(|part| part == b"canary"));
    assert!(sealer.has_sealed(&sealed));
    assert!(!self::sealer(&all).has_sealed(&sealed));
    assert_eq!(refused(&opener, b"elsewhere", &sealed), Unopened::Forged);
    assert_eq!(
        opener.open(b"place", sealed.clone(), None).unwrap(),
        "canary"
    );
    assert_eq!(refused(&opener, b"place", &sealed), Unopened::Replayed);
    assert!(opener.may_open(&sealed).is_err());
}

#[test]
fn replaced_secret_seals_and_the_old_one_no_longer_opens() {
    let (own, peer) = (secrets([1]), secrets([1]));
    let (sealer, opener) = (sealer(&own), opener(&peer));
    let before = [(); 2].map(|()| sealer.seal(b"", b"before"));
    assert_eq!(opener.open(b"", before[0].clone(), None).unwrap(), "before");
    // Peers know the new secret before this server seals with it, and the old one until all do.
    peer.replace(&secrets([1, 2]));
    own.replace(&secrets([2, 1]));
    let after = sealer.seal(b"", b"after");
    assert_eq!(opener.open(b"", after.clone(), None).unwrap(), "after");
    assert_eq!(opener.senders(), 2);
    assert!(sealer.has_sealed(&before[0]) && sealer.has_sealed(&after));
    own.replace(&secrets([2]));
    peer.replace(&secrets([2]));
    assert_eq!(refused(&opener, b"", &before[1]), Unopened::UnknownKey);
    assert!(opener.may_open(&before[1]).is_err());
    let last = sealer.seal(b"", b"last");
    assert_eq!(opener.open(b"", last, None).unwrap(), "last");
    // The sealer did not change with a secret that only opens.
    assert_eq!(opener.senders(), 2);
    // A secret that returns seals under a new incarnation, so that no nonce repeats.
    own.replace(&secrets([3]));
    let unknown = sealer.seal(b"", b"unknown");
    assert_eq!(refused(&opener, b"", &unknown), Unopened::UnknownKey);
    own.replace(&secrets([2]));
    let again = sealer.seal(b"", b"again");
    assert_eq!(opener.open(b"", again, None).unwrap(), "again");
    assert_eq!(opener.senders(), 3);
    own.replace(&own.clone());
    assert_eq!(own.derive("x"), peer.derive("x"));
}

#[test]
fn message_sealed_with_unknown_secret_is_refused_by_its_header() {
    let all = secrets([1]);
    let opener = opener(&all);
    for plain in [&b""[..], b"{}", b"\x01envelope", b"\x93list"] {
        let plain = Bytes::copy_from_slice(plain);
        assert_eq!(refused(&opener, b"", &plain), Unopened::Plain);
    }
    let sealed = sealer(&secrets([2])).seal(b"", b"message");
    assert_eq!(refused(&opener, b"", &sealed), Unopened::UnknownKey);
    let sealed = sealer(&all).seal(b"", b"message");
    for length in 1..OVERHEAD {
        assert_eq!(
            refused(&opener, b"", &sealed.slice(..length)),
            Unopened::Forged
        );
    }
    let mut newer = sealed.to_vec();
    newer[1] = 2;
    let error = opener.open(b"", newer.into(), None).unwrap_err();
    assert!(matches!(error, WireError::UnknownVersion(2)));
}

#[test]
fn any_changed_byte_is_refused_and_registers_no_sender() {
    let all = secrets([1]);
    let (opener, sealed) = (opener(&all), sealer(&all).seal(b"place", b"message"));
    for place in 0..sealed.len() {
        let mut changed = sealed.to_vec();
        changed[place] ^= 1;
        let opened = opener.open(b"place", changed.into(), None);
        assert!(opened.is_err(), "byte {place}");
    }
    assert_eq!(opener.senders(), 0);
    assert!(opener.open(b"place", sealed, None).is_ok());
    assert_eq!(opener.senders(), 1);
}

#[test]
fn message_of_new_sender_must_be_recent_and_of_known_sender_need_not() {
    let all = secrets([1]);
    for (offset, is_fresh) in [
        (-61_000, false),
        (-50_000, true),
        (50_000, true),
        (61_000, false),
    ] {
        let (sealer, opener) = (sealer(&all), opener(&all));
        let then = now().checked_add_signed(offset).unwrap();
        let [early, sealed] = [(); 2].map(|()| sealer.seal_at(then, b"", b"old"));
        let opened = opener.open(b"", sealed.clone(), None);
        assert_eq!(opened.is_ok(), is_fresh, "{offset}");
        // The time at which a stream stored it then shows that it is not a replay.
        let stored = self::opener(&all).open(b"", sealed, Some(then));
        assert!(stored.is_ok());
        if !is_fresh {
            assert_eq!(refused(&opener, b"", &early), Unopened::Stale);
        }
    }
    let (sealer, opener) = (sealer(&all), opener(&all));
    let old = now() - 61_000;
    let captured = sealer.seal_at(old, b"", b"before the first");
    opener.open(b"", sealer.seal(b"", b"first"), None).unwrap();
    assert_eq!(refused(&opener, b"", &captured), Unopened::Stale);
    let late = sealer.seal_at(old, b"", b"after the first");
    assert!(opener.open(b"", late, None).is_ok());
}

#[test]
fn a_new_secret_opens_before_it_seals() {
    let [old, both, swapped, new] = [secrets([1]), secrets([1, 2]), secrets([2, 1]), secrets([2])];
    // Each step of a rollout is compatible with the previous and the next step.
    for (from, to) in [(&old, &both), (&both, &swapped), (&swapped, &new)] {
        for (from, to) in [(from, to), (to, from)] {
            let sealed = sealer(from).seal(b"", b"message");
            assert!(opener(to).open(b"", sealed, None).is_ok());
        }
    }
    let sealed = sealer(&new).seal(b"", b"message");
    assert_eq!(refused(&opener(&old), b"", &sealed), Unopened::UnknownKey);
}

#[test]
fn number_of_stored_senders_is_bounded() {
    let all = secrets([1]);
    let opener = opener(&all);
    for _ in 0..4100 {
        let sealed = sealer(&all).seal(b"", b"message");
        opener.open(b"", sealed, None).unwrap();
    }
    assert_eq!(opener.senders(), 4096);
}

#[test]
fn stored_content_opens_again_only_at_its_place() {
    let all = secrets([1]);
    let (sealer, opener) = (sealer(&all), opener(&all));
    let stored = sealer.seal(b"key", b"session");
    for _ in 0..2 {
        let (content, age) = opener.read(b"key", stored.clone()).unwrap();
        assert!(content == "session" && age.as_secs() < 60);
    }
    assert!(opener.read(b"other", stored).is_err());
}

#[cfg(feature = "redis")]
#[test]
fn each_reading_of_a_journal_opens_an_entry_once() {
    let all = secrets([1]);
    let (sealer, opener) = (sealer(&all), opener(&all));
    let (entry, time) = (sealer.seal(b"stream", b"entry"), now());
    for _ in 0..2 {
        let mut reading = opener.reading();
        let mut open = |time| reading.open(b"stream", entry.clone(), time);
        assert!(matches!(
            open(time + 90_000),
            Err(WireError::Unopened(Unopened::Stale))
        ));
        assert_eq!(open(time).unwrap(), "entry");
        assert!(matches!(
            open(time + 1),
            Err(WireError::Unopened(Unopened::Replayed))
        ));
    }
}

#[test]
fn plain_messages_count_only_while_they_are_accepted() {
    let (node, payload) = (NodeId::new("n").unwrap(), Bytes::from_static(b"{}"));
    let never = Protection::new(&SealOptions::default(), &purpose());
    let opened = never.open(b"", payload.clone(), None).unwrap();
    assert!(!opened.was_sealed && never.admits(&node, false) && !never.seals(&node));
    let strict = Protection::new(&options(secrets([1]), false), &purpose());
    assert!(strict.open(b"", payload.clone(), None).is_err());
    assert!(strict.seals(&node) && strict.accept_plain().is_err());
    let rolling = Protection::new(&options(secrets([1]), true), &purpose());
    let opened = rolling.open(b"", payload, None).unwrap();
    assert!(!opened.was_sealed && rolling.admits(&node, false) && !rolling.seals(&node));
    let sealed = sealer(&secrets([1])).seal(b"", b"{}");
    let opened = rolling.open(b"", sealed, None).unwrap();
    assert!(opened.was_sealed && rolling.admits(&node, true) && rolling.seals(&node));
    assert!(!rolling.admits(&node, false), "it has come sealed");
}

/// Sealed messages that every later version must open. A line contains the purpose, the secret, the
/// place, the time, the content and the message.
#[test]
fn sealed_messages_are_those_of_earlier_versions() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/sealed.txt");
    let corpus = fs::read_to_string(path).unwrap();
    let lines = corpus.lines().filter(|line| !line.starts_with('#'));
    let mut count = 0;
    for line in lines {
        let fields: Vec<_> = line.split(' ').collect();
        let [label, secret, place, time, content, sealed] = fields[..] else {
            panic!("{line}");
        };
        let all = Secrets::new([secret]).unwrap();
        let purpose = Purpose::new(
            ["redis channels", "nats"]
                .into_iter()
                .find(|known| known.replace(' ', "-") == label)
                .unwrap(),
            "socket.io",
        );
        let time = time.parse().unwrap();
        let sealed = bytes_of(sealed);
        let opened = Opener::new(&all, &purpose).open(place.as_bytes(), sealed.clone(), Some(time));
        assert_eq!(opened.unwrap(), content, "{line}");
        let sealer = Sealer::with(&all, &purpose, *b"an incarnation 1");
        let now = sealer.seal_at(time, place.as_bytes(), content.as_bytes());
        assert_eq!(hex(&now), hex(&sealed), "{line}");
        count += 1;
    }
    assert_eq!(count, 2);
}

fn bytes_of(hex: &str) -> Bytes {
    let digits = hex.as_bytes().chunks(2);
    let byte = |pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.map(byte).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

proptest! {
    #[test]
    fn any_sealed_message_opens_at_its_place(
        place in proptest::collection::vec(any::<u8>(), 0..400),
        messages in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..64), 1..8),
    ) {
        let all = secrets([1]);
        let (sealer, opener) = (sealer(&all), opener(&all));
        for message in messages {
            let sealed = sealer.seal(&place, &message);
            prop_assert_eq!(opener.open(&place, sealed, None).unwrap(), message);
        }
    }

    #[test]
    fn arbitrary_bytes_are_refused_unless_sealed(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let all = secrets([1]);
        let opener = opener(&all);
        let sealed = sealer(&all).seal(b"", b"");
        // Also after a genuine header.
        let header = [&sealed[..38], &bytes].concat();
        prop_assert!(opener.open(b"", bytes.into(), None).is_err());
        prop_assert!(opener.open(b"", header.into(), None).is_err());
    }
}
