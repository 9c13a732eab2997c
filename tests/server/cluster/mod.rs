//! Several servers as one: what holds on one server holds on three that an adapter joins.

mod acks;
mod emit;
mod fetch;
mod hub;
mod model;
mod recovery;
mod server_side;

use std::ops::Index;

use roomcast::{Builder, Io, adapter::NodeId};

use self::hub::Hub;
use crate::local::Local;

/// Servers that an adapter joins; one alone has none.
struct Servers {
    hub: Option<Hub>,
    servers: Vec<Local>,
}

impl Servers {
    fn alone(build: impl FnOnce(Builder) -> Builder) -> Self {
        Self {
            hub: None,
            servers: vec![Local::serve(build(Io::builder()))],
        }
    }

    fn joined(count: usize, build: impl Fn(Builder) -> Builder) -> Self {
        Self::joined_by(Hub::new(), count, build)
    }

    fn joined_by(hub: Hub, count: usize, build: impl Fn(Builder) -> Builder) -> Self {
        let serve = |_| Local::serve(build(Io::builder().adapter(hub.adapter())));
        Self {
            servers: (0..count).map(serve).collect(),
            hub: Some(hub),
        }
    }

    /// Runs a suite on one server and on three.
    fn each(build: impl Fn(Builder) -> Builder, suite: impl Fn(&Self)) {
        suite(&Self::alone(&build));
        suite(&Self::joined(3, &build));
    }

    fn hub(&self) -> &Hub {
        self.hub.as_ref().unwrap()
    }

    fn node(&self, i: usize) -> NodeId {
        self[i].io.node().unwrap().clone()
    }

    /// Waits until what was published has been applied everywhere.
    fn settle(&self) {
        if let Some(hub) = &self.hub {
            hub.settle();
        }
    }
}

/// The server with this number, counted round and round.
impl Index<usize> for Servers {
    type Output = Local;

    fn index(&self, i: usize) -> &Local {
        &self.servers[i % self.servers.len()]
    }
}

/// A server in whose namespaces nothing is handled.
fn quiet(mut io: Builder) -> Builder {
    io.namespace("/");
    io
}
