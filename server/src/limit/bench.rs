//! Realistic rate limits for benchmarks.

use std::sync::Arc;

use roomcast::internal::{Guarded, LimitedConnection};

use super::{Allowance, Class, Users};
use crate::{config::Limits, metrics::Metrics};

/// The limits of users and addresses.
#[derive(Debug)]
pub struct Limited {
    users: Users,
    allowances: Vec<Arc<Allowance>>,
    guard: Guarded,
}

impl Limited {
    /// Creates limits with this many connected users and a thousand blocked networks.
    #[must_use]
    pub fn new(users: usize) -> Self {
        let limits = Limits {
            messages_per_minute: Some(u32::MAX),
            ..Limits::default()
        };
        let known = Users::new(&limits, Arc::<Metrics>::default());
        let enter = |n| known.enter(&format!("user-{n:032}")).0;
        Self {
            allowances: (0..users).map(enter).collect(),
            users: known,
            guard: Guarded::new(),
        }
    }

    /// Counts a message of the user. Returns whether it is allowed.
    #[must_use]
    pub fn event(&self, user: usize) -> bool {
        let allowance = self.allowances.get(user);
        let take = |allowance: &Arc<_>| self.users.take(Class::Messages, allowance);
        allowance.map(take).is_some_and(|answer| answer.is_ok())
    }

    /// Connects and disconnects an address. Returns whether it is allowed.
    #[must_use]
    pub fn connect(&self, number: u32) -> bool {
        self.guard.connect(number)
    }

    /// Returns a connection whose limits are not reached.
    #[must_use]
    pub fn connection(&self) -> LimitedConnection {
        LimitedConnection::new()
    }
}
