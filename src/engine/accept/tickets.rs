//! Session tickets (RFC 8446, 4.6.1): a client that reconnects, to any server with the same private
//! key, skips the certificate and its signature.
//!
//! - **Keys.** HKDF-SHA256 derives a root from the private key of the certificate, and from the
//!   root one key for each window of time. Servers with the same private key accept each other's
//!   tickets. Only parties that can act as the server anyway can make or open tickets. In
//!   particular, holders of the cluster's secrets, such as emitters, cannot.
//! - **Rotation.** Each window has its own key. A ticket is accepted in its window and in the next,
//!   so between one and two windows. A server with another private key performs a full handshake.
//! - **Forward secrecy.** Each resumption includes a new Diffie-Hellman exchange, so that a private
//!   key that is stolen later opens no recorded connection of TLS 1.3. A ticket of TLS 1.2 contains
//!   the keys of the connection that carries it in plain text, so TLS 1.2 has no tickets. Its
//!   sessions are resumed by the server that has them in memory.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use parking_lot::RwLock;
use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hkdf::{HKDF_SHA256, Prk, Salt},
};
use rustls::{pki_types::PrivateKeyDer, server::ProducesTickets};

/// Makes and opens the tickets of all servers with one private key.
pub(super) struct Tickets {
    root: Prk,
    keys: RwLock<Arc<Keys>>,
}

/// The keys in use during a window.
struct Keys {
    window: u64,
    previous: TicketKey,
    current: TicketKey,
    next: TicketKey,
}

/// The key of a window.
struct TicketKey {
    /// Identifies the key in tickets, and reveals nothing about it.
    name: Name,
    key: LessSafeKey,
}

type Name = [u8; 16];

/// The duration of a window, in seconds. Clients are told to use tickets for as long.
const WINDOW_S: u32 = 6 * 60 * 60;
/// Tolerance for servers whose clock is ahead. Their tickets of the next window are accepted early.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(5 * 60);
/// Maximum length of a ticket in bytes. Tickets contain names and secrets of fixed length.
const MAX_TICKET: usize = 1024;

/// Separates the root from keys that other programs derive from the same private key.
const SALT: &[u8] = b"roomcast tls tickets 1";
const NAME: &[u8] = b"name";
const KEY: &[u8] = b"key";
const TLS_1_3: [u8; 2] = [3, 4];

impl Tickets {
    /// Derives the keys from the private key of a certificate.
    pub(super) fn new(private_key: &PrivateKeyDer<'_>) -> Self {
        let root = Salt::new(HKDF_SHA256, SALT).extract(private_key.secret_der());
        let keys = Keys::new(&root, window(since_1970()));
        Self {
            root,
            keys: RwLock::new(Arc::new(keys)),
        }
    }

    /// Returns the keys for this time.
    fn keys(&self, now: Duration) -> Arc<Keys> {
        let window = window(now);
        {
            let keys = self.keys.read();
            if keys.window == window {
                return Arc::clone(&keys);
            }
        }
        let keys = Arc::new(Keys::new(&self.root, window));
        *self.keys.write() = Arc::clone(&keys);
        keys
    }

    fn encrypt_at(&self, now: Duration, session: &[u8]) -> Option<Vec<u8>> {
        if !is_tls_1_3(session) {
            return None;
        }
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).ok()?;
        let keys = self.keys(now);
        let TicketKey { name, key } = &keys.current;
        let mut sealed = session.to_vec();
        let tag = key.seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(name),
            &mut sealed,
        );
        Some([name, &nonce[..], &sealed, tag.ok()?.as_ref()].concat())
    }

    fn decrypt_at(&self, now: Duration, ticket: &[u8]) -> Option<Vec<u8>> {
        if ticket.len() > MAX_TICKET {
            return None;
        }
        let (name, rest) = ticket.split_first_chunk::<{ size_of::<Name>() }>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let keys = self.keys(now);
        let key = keys.find(name, now)?;
        let mut session = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = key.open_in_place(nonce, Aad::from(name), &mut session);
        let len = opened.ok()?.len();
        session.truncate(len);
        Some(session)
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        WINDOW_S
    }

    fn encrypt(&self, session: &[u8]) -> Option<Vec<u8>> {
        self.encrypt_at(since_1970(), session)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        self.decrypt_at(since_1970(), ticket)
    }
}

impl Keys {
    fn new(root: &Prk, window: u64) -> Self {
        Self {
            window,
            previous: TicketKey::new(root, window.saturating_sub(1)),
            current: TicketKey::new(root, window),
            next: TicketKey::new(root, window.saturating_add(1)),
        }
    }

    /// Returns the key with this name if its tickets are accepted now.
    fn find(&self, name: &Name, now: Duration) -> Option<&LessSafeKey> {
        let next_is_near = window(now.saturating_add(CLOCK_TOLERANCE)) > self.window;
        let next = Some(&self.next).filter(|_| next_is_near);
        let mut accepted = [&self.current, &self.previous].into_iter().chain(next);
        let found = accepted.find(|key| key.name == *name)?;
        Some(&found.key)
    }
}

impl TicketKey {
    fn new(root: &Prk, window: u64) -> Self {
        let window = window.to_be_bytes();
        let mut name = [0; 32];
        let derived = root
            .expand(&[NAME, &window], HKDF_SHA256)
            .and_then(|okm| okm.fill(&mut name));
        derived.expect("HKDF derives 32 bytes");
        let info = [KEY, &window];
        let key = root.expand(&info, &AES_256_GCM);
        let key = UnboundKey::from(key.expect("HKDF derives 32 bytes"));
        let (name, _) = name.split_first_chunk().expect("a name is shorter");
        Self {
            name: *name,
            key: LessSafeKey::new(key),
        }
    }
}

/// Returns the number of the window at this time.
fn window(now: Duration) -> u64 {
    now.as_secs() / u64::from(WINDOW_S)
}

fn since_1970() -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default()
}

/// Returns whether a session is of TLS 1.3. `rustls` encodes the server name as an option, then the
/// version. If another release encodes sessions differently, there are no tickets, and tests fail.
fn is_tls_1_3(session: &[u8]) -> bool {
    let version = match session {
        [0, rest @ ..] => Some(rest),
        [1, len, rest @ ..] => rest.get(usize::from(*len)..),
        _ => None,
    };
    version.is_some_and(|rest| rest.starts_with(&TLS_1_3))
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A session of TLS 1.3, followed by what the tickets do not know.
    const SESSION: &[u8] = b"\x01\x01x\x03\x04and more";

    fn tickets(private_key: u8) -> Tickets {
        Tickets::new(&PrivateKeyDer::Pkcs8(vec![private_key; 40].into()))
    }

    /// Returns the end of the window that has this number after the present one.
    fn end(windows: u64) -> Duration {
        let window = window(since_1970()) + windows + 1;
        Duration::from_secs(window * u64::from(WINDOW_S)) - Duration::from_millis(1)
    }

    #[test]
    fn ticket_opens_at_servers_with_the_same_private_key_only() {
        let ticket = tickets(1).encrypt(SESSION).unwrap();
        assert_eq!(tickets(1).decrypt(&ticket).as_deref(), Some(SESSION));
        assert_eq!(tickets(2).decrypt(&ticket), None);
        assert_ne!(
            tickets(1).encrypt(SESSION).unwrap(),
            ticket,
            "a nonce repeats"
        );
        let hidden = |part: &[u8]| !ticket.windows(part.len()).any(|found| found == part);
        assert!(hidden(b"more"));
    }

    #[test]
    fn ticket_opens_in_its_window_and_the_next_but_no_later() {
        let all = tickets(1);
        let made = end(0);
        let ticket = all.encrypt_at(made, SESSION).unwrap();
        for (now, opens) in [
            (made, true),
            (made + Duration::from_millis(1), true),
            (end(1), true),
            (end(1) + Duration::from_millis(1), false),
            (end(20), false),
            // A server whose clock is behind.
            (made, true),
        ] {
            assert_eq!(all.decrypt_at(now, &ticket).is_some(), opens, "{now:?}");
            // A server that has just started.
            let opened = tickets(1).decrypt_at(now, &ticket);
            assert_eq!(opened.is_some(), opens, "{now:?}");
        }
        // Each window has its own key.
        let later = all.encrypt_at(end(1), SESSION).unwrap();
        assert_ne!(ticket.first_chunk::<16>(), later.first_chunk::<16>());
    }

    #[test]
    fn ticket_of_a_clock_ahead_opens_within_the_tolerance() {
        let all = tickets(1);
        let ticket = all.encrypt_at(end(1), SESSION).unwrap();
        let near = end(0);
        assert!(all.decrypt_at(near, &ticket).is_some());
        assert!(all.decrypt_at(near - CLOCK_TOLERANCE, &ticket).is_none());
    }

    #[test]
    fn changed_cut_or_long_tickets_do_not_open() {
        let all = tickets(1);
        let ticket = all.encrypt(SESSION).unwrap();
        for index in 0..ticket.len() {
            let mut changed = ticket.clone();
            changed[index] ^= 1;
            assert_eq!(all.decrypt(&changed), None, "byte {index}");
            assert_eq!(all.decrypt(&ticket[..index]), None, "{index} bytes");
        }
        let long = [&ticket[..], &[0; MAX_TICKET]].concat();
        assert_eq!(all.decrypt(&long), None);
    }

    #[test]
    fn sessions_of_other_versions_get_no_ticket() {
        for session in [
            &b""[..],
            b"\x00",
            b"\x00\x03\x03",
            b"\x01\x01x\x03\x03",
            b"\x01\xffx\x03\x04",
            b"\x02\x03\x04",
        ] {
            assert_eq!(tickets(1).encrypt(session), None, "{session:?}");
        }
        assert!(tickets(1).encrypt(b"\x00\x03\x04").is_some());
    }
}
