//! The password of the admin UI: bcrypt, with bounded cost.
//!
//! A comparison takes up to a second of one core, and the caller pays nothing. Each address
//! therefore has few attempts a minute, and one comparison runs at a time.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use bcrypt::HashParts;
use parking_lot::{Mutex, RwLock};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use crate::config::Secret;
use crate::metrics::{Inventoried, Inventory};
use roomcast::network::Network;

/// A user name and the bcrypt hash of its password.
pub(crate) struct Login {
    username: String,
    hash: RwLock<String>,
    attempts: Mutex<HashMap<Network, Attempts>>,
    /// One comparison runs at a time.
    running: Arc<Semaphore>,
    /// Comparisons that run or wait.
    admitted: Arc<Semaphore>,
}

/// The attempts of a network in the current window.
struct Attempts {
    count: u32,
    ends: Instant,
}

/// Why a login was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LoginFault {
    /// The name or the password is wrong.
    Wrong,
    /// The address, or all addresses together, have tried too often.
    TooMany,
}

/// Why a hash cannot be used. It contains no part of the hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HashFault {
    Malformed,
    Cost(u32),
}

impl fmt::Display for HashFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => f.write_str("is not a bcrypt hash ($2a$, $2b$ or $2y$)"),
            Self::Cost(cost) => write!(
                f,
                "has the cost {cost}, it must be from {MIN_COST} to {MAX_COST}"
            ),
        }
    }
}

/// Checks whether a hash can be used.
///
/// # Errors
///
/// If it is not a bcrypt hash, or its cost is too low to protect the password or too high to be
/// computed for callers.
pub(crate) fn check_hash(hash: &Secret) -> Result<(), HashFault> {
    let hash = hash.expose();
    let is_known = KINDS.iter().any(|kind| hash.starts_with(kind));
    let parts = HashParts::from_str(hash).ok().filter(|_| is_known);
    let parts = parts.ok_or(HashFault::Malformed)?;
    let cost = parts.get_cost();
    if !(MIN_COST..=MAX_COST).contains(&cost) {
        return Err(HashFault::Cost(cost));
    }
    // The parser accepts any characters. A comparison does not, and the lowest cost is enough here.
    let cheap = hash.replacen(&format!("${cost}$"), "$04$", 1);
    match bcrypt::verify("", &cheap) {
        Ok(_) => Ok(()),
        Err(_) => Err(HashFault::Malformed),
    }
}

impl Login {
    /// Creates a login whose hash was [checked](check_hash).
    pub(crate) fn new(username: &str, hash: &Secret) -> Self {
        Self {
            username: username.to_owned(),
            hash: RwLock::new(hash.expose().to_owned()),
            attempts: Mutex::default(),
            running: Arc::new(Semaphore::new(1)),
            admitted: Arc::new(Semaphore::new(MAX_WAITING)),
        }
    }

    /// Replaces the hash by one that was [checked](check_hash). If it differs, calls `end_sessions`
    /// before any login with the new password, and returns `true`.
    pub(crate) fn replace(&self, hash: &Secret, end_sessions: impl FnOnce()) -> bool {
        let mut current = self.hash.write();
        if *current == hash.expose() {
            return false;
        }
        hash.expose().clone_into(&mut current);
        end_sessions();
        true
    }

    /// Checks a name and a password, and returns the result of `admit`, which is called only while
    /// the password is valid. A wrong name takes as long as a wrong password.
    ///
    /// # Errors
    ///
    /// If they are wrong or the password was replaced, or there were too many attempts.
    pub(crate) async fn check<T>(
        &self,
        address: IpAddr,
        username: &str,
        password: String,
        admit: impl FnOnce() -> T,
    ) -> Result<T, LoginFault> {
        self.count(Network::of_client(address))?;
        // bcrypt would ignore all further bytes.
        if password.len() > MAX_PASSWORD {
            return Err(LoginFault::Wrong);
        }
        let admitted = Arc::clone(&self.admitted).try_acquire_owned();
        let admitted = admitted.map_err(|_| LoginFault::TooMany)?;
        let running = timeout(MAX_WAIT, Arc::clone(&self.running).acquire_owned()).await;
        let Ok(Ok(running)) = running else {
            return Err(LoginFault::TooMany);
        };
        let hash = self.hash.read().clone();
        // A caller that leaves does not end the comparison, which therefore holds the permits.
        let compared = tokio::task::spawn_blocking(move || {
            let _permits = (admitted, running);
            let is_right = bcrypt::verify(password, &hash);
            matches!(is_right, Ok(true)).then_some(hash)
        });
        let Ok(Some(compared)) = compared.await else {
            return Err(LoginFault::Wrong);
        };
        // A replacement waits until a session exists, which it then ends.
        let current = self.hash.read();
        if username != self.username || *current != compared {
            return Err(LoginFault::Wrong);
        }
        self.attempts.lock().remove(&Network::of_client(address));
        Ok(admit())
    }

    /// Counts an attempt of a network.
    fn count(&self, network: Network) -> Result<(), LoginFault> {
        let now = Instant::now();
        let mut all = self.attempts.lock();
        if all.len() >= MAX_NETWORKS && !all.contains_key(&network) {
            all.retain(|_, attempts| attempts.ends > now);
            if all.len() >= MAX_NETWORKS {
                return Err(LoginFault::TooMany);
            }
        }
        let attempts = all.entry(network).or_insert(Attempts {
            count: 0,
            ends: now + WINDOW,
        });
        if attempts.ends <= now {
            attempts.count = 0;
            attempts.ends = now + WINDOW;
        }
        attempts.count = attempts.count.saturating_add(1);
        if attempts.count > MAX_ATTEMPTS {
            return Err(LoginFault::TooMany);
        }
        Ok(())
    }
}

impl Inventoried for Login {
    fn report(&self, inventory: &mut Inventory) {
        inventory.map("admin UI login attempts", &self.attempts.lock());
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").finish_non_exhaustive()
    }
}

const KINDS: [&str; 3] = ["$2a$", "$2b$", "$2y$"];
const MIN_COST: u32 = 10;
const MAX_COST: u32 = 14;
/// The bytes of a password that bcrypt uses.
const MAX_PASSWORD: usize = 72;
/// Attempts of a network per [`WINDOW`]. A successful one resets the count.
const MAX_ATTEMPTS: u32 = 10;
const WINDOW: Duration = Duration::from_secs(60);
/// Networks with counted attempts. Beyond that, other networks are refused.
const MAX_NETWORKS: usize = 4096;
/// Comparisons that run or wait. Beyond that, attempts are refused.
const MAX_WAITING: usize = 8;
/// The maximum time that an attempt waits for others.
const MAX_WAIT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(cost: u32) -> Secret {
        Secret::from(bcrypt::hash("right", cost).unwrap())
    }

    #[test]
    fn hashes_that_are_malformed_or_of_bad_cost_are_refused() {
        assert_eq!(check_hash(&hash(10)), Ok(()));
        assert_eq!(check_hash(&hash(4)), Err(HashFault::Cost(4)));
        let valid = hash(10).expose().to_owned();
        let costly = valid.replacen("$10$", "$15$", 1);
        assert_eq!(check_hash(&costly.into()), Err(HashFault::Cost(15)));
        let short = valid.get(..59).unwrap().to_owned();
        let foreign = valid.replacen("$2b$", "$2x$", 1);
        let unencoded = format!("{}!", valid.get(..59).unwrap());
        for wrong in [String::new(), "secret".into(), short, foreign, unencoded] {
            let fault = check_hash(&Secret::from(wrong.clone()));
            assert_eq!(fault, Err(HashFault::Malformed), "{wrong}");
        }
    }

    #[tokio::test]
    async fn an_address_has_ten_wrong_passwords_a_minute() {
        let login = Login::new("ops", &hash(4));
        let (one, other) = ([192, 0, 2, 1].into(), [198, 51, 100, 1].into());
        let check = |address, name: &'static str, password: &str| {
            login.check(address, name, password.to_owned(), || ())
        };
        assert_eq!(check(one, "ops", "right").await, Ok(()));
        assert_eq!(check(one, "root", "right").await, Err(LoginFault::Wrong));
        let long = "x".repeat(MAX_PASSWORD + 1);
        assert_eq!(check(one, "ops", &long).await, Err(LoginFault::Wrong));
        for _ in 2..MAX_ATTEMPTS {
            assert_eq!(check(one, "ops", "wrong").await, Err(LoginFault::Wrong));
        }
        assert_eq!(check(one, "ops", "right").await, Err(LoginFault::TooMany));
        assert_eq!(check(other, "ops", "right").await, Ok(()));
    }

    #[tokio::test]
    async fn few_comparisons_wait_and_others_are_refused() {
        let login = Login::new("ops", &hash(4));
        let _running = login.running.acquire().await.unwrap();
        let _waiting = login.admitted.acquire_many(8).await.unwrap();
        let address = IpAddr::from([192, 0, 2, 1]);
        let refused = login.check(address, "ops", "right".into(), || ()).await;
        assert_eq!(refused, Err(LoginFault::TooMany));
    }

    #[tokio::test]
    async fn replaced_password_is_refused_also_during_its_comparison() {
        let login = Login::new("ops", &hash(4));
        let address = IpAddr::from([192, 0, 2, 1]);
        let check = |password: &str| login.check(address, "ops", password.to_owned(), || ());
        // The first poll reads the hash and starts the comparison.
        let compared = check("right");
        tokio::pin!(compared);
        assert!(futures_util::poll!(&mut compared).is_pending());
        let other = Secret::from(bcrypt::hash("other", 4).unwrap());
        let mut ended = 0;
        assert!(login.replace(&other, || ended += 1));
        assert!(!login.replace(&other, || ended += 1), "it is the same");
        assert_eq!(ended, 1);
        assert_eq!(compared.await, Err(LoginFault::Wrong));
        assert_eq!(check("right").await, Err(LoginFault::Wrong));
        assert_eq!(check("other").await, Ok(()));
    }
}
