//! Limits as a server has them, for benches.

use std::sync::Arc;

use roomcast::internal::{Guarded, LimitedConnection};

use super::{Allowance, Class, Users};
use crate::{config::Limits, metrics::Metrics};

/// Users and addresses that a server knows.
#[derive(Debug)]
pub struct Limited {
    users: Users,
    allowances: Vec<Arc<Allowance>>,
    guard: Guarded,
}

impl Limited {
    /// This many users, connected from as many addresses, while a thousand networks are blocked.
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

    /// A user sends a message on one of its connections; whether it may.
    #[must_use]
    pub fn event(&self, user: usize) -> bool {
        let allowance = self.allowances.get(user);
        let take = |allowance: &Arc<_>| self.users.take(Class::Messages, allowance);
        allowance.map(take).is_some_and(|answer| answer.is_ok())
    }

    /// An address connects and goes; whether it may.
    #[must_use]
    pub fn connect(&self, number: u32) -> bool {
        self.guard.connect(number)
    }

    /// A connection with limits that are not reached.
    #[must_use]
    pub fn connection(&self) -> LimitedConnection {
        LimitedConnection::new()
    }
}
