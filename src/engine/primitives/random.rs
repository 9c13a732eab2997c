//! Unguessable ids of sessions and sockets.

use std::cell::RefCell;

use roomcast_protocol::Sid;

/// A per-thread pool of random bytes, refilled for many ids at a time.
struct Pool {
    bytes: [u8; Self::IDS * Self::ID],
    used: usize,
}

impl Pool {
    const ID: usize = 15;
    const IDS: usize = 32;

    fn next(&mut self) -> [u8; Self::ID] {
        if self.used == self.bytes.len() {
            getrandom::fill(&mut self.bytes).expect("the operating system gives random bytes");
            self.used = 0;
        }
        let mut id = [0; Self::ID];
        if let Some(fresh) = self.bytes.get_mut(self.used..self.used + Self::ID) {
            id.copy_from_slice(fresh);
            // A session id is a secret that authorizes its client, so no copy of it remains here.
            fresh.fill(0);
        }
        self.used += Self::ID;
        id
    }
}

thread_local! {
    static POOL: RefCell<Pool> = const {
        RefCell::new(Pool { bytes: [0; Pool::IDS * Pool::ID], used: Pool::IDS * Pool::ID })
    };
}

/// Returns a new unguessable id.
pub(crate) fn random_sid() -> Sid {
    Sid::from_random(POOL.with_borrow_mut(Pool::next))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::random_sid;

    #[test]
    fn ids_differ_across_batches_and_threads() {
        let draw = || (0..100).map(|_| random_sid()).collect::<Vec<_>>();
        let other = std::thread::spawn(draw).join().unwrap();
        let all: HashSet<_> = draw().into_iter().chain(other).collect();
        assert_eq!(all.len(), 200);
    }
}
