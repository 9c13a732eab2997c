//! Assigns names to servers whose answers do not contain one.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::adapter::{envelope::NodeId, node_js::PeerReply};

/// Answers in the classic wire format do not name their sender. A server sends a count or its
/// complete answer at once, so each such message gets a new name. An acknowledgement is assigned to
/// any server that has announced more than it has sent.
#[derive(Debug, Default)]
pub(crate) struct AnonymousAnswers(Mutex<BTreeMap<u64, Answers>>);

#[derive(Debug, Default)]
struct Answers {
    servers: u64,
    /// The servers that have announced acknowledgements, and how many are outstanding.
    open: Vec<(NodeId, u32)>,
}

impl AnonymousAnswers {
    /// Returns the name of the server for an answer to a request, or `None` if no server can have
    /// sent it.
    pub(crate) fn name(&self, number: u64, reply: &PeerReply) -> Option<NodeId> {
        let mut all = self.0.lock();
        let answers = all.entry(number).or_default();
        let named = match reply {
            PeerReply::Acknowledgement(_) => answers.acknowledged(),
            PeerReply::Count(count) => answers.next(*count),
            PeerReply::Sockets(_) | PeerReply::Answer(_) => answers.next(0),
        };
        // Request numbers increase, so the first is the oldest. A request without outstanding
        // answers is removed first.
        if all.len() > MAX_QUESTIONS {
            let done = all.iter().find(|(_, answers)| answers.open.is_empty());
            match done.map(|(number, _)| *number) {
                Some(number) => all.remove(&number),
                None => all.pop_first().map(|(_, answers)| answers),
            };
        }
        named
    }
}

impl Answers {
    fn next(&mut self, count: u32) -> Option<NodeId> {
        if self.servers >= MAX_SERVERS {
            return None;
        }
        self.servers += 1;
        let node = NodeId::new(&format!("unnamed-{}", self.servers))?;
        if count > 0 {
            self.open.push((node.clone(), count));
        }
        Some(node)
    }

    fn acknowledged(&mut self) -> Option<NodeId> {
        let (node, left) = self.open.last_mut()?;
        let node = node.clone();
        *left -= 1;
        if *left == 0 {
            self.open.pop();
        }
        Some(node)
    }
}

/// The maximum number of requests that are stored: more than may be pending at the same time by
/// default.
const MAX_QUESTIONS: usize = 1 << 14;
/// The maximum number of servers per request.
const MAX_SERVERS: u64 = 4096;
