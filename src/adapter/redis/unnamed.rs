//! Names for servers that answer without one.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::adapter::{envelope::NodeId, message::Said};

/// On the classic wire answers do not say whose they are. A server sends a count or everything at once, so
/// each such message gets a new name; an acknowledgement counts for any server that owes one more.
#[derive(Debug, Default)]
pub(crate) struct Unnamed(Mutex<BTreeMap<u64, Answers>>);

#[derive(Debug, Default)]
struct Answers {
    servers: u64,
    /// Who has announced acknowledgements that have not come.
    open: Vec<(NodeId, u32)>,
}

impl Unnamed {
    /// The name of the server that has said this to a question; `None` if nobody may.
    pub(crate) fn name(&self, question: u64, said: &Said) -> Option<NodeId> {
        let mut all = self.0.lock();
        let answers = all.entry(question).or_default();
        let named = match said {
            Said::Acknowledgement(_) => answers.acknowledged(),
            Said::Count(count) => answers.next(*count),
            Said::Sockets(_) | Said::Answer(_) => answers.next(0),
        };
        // The numbers of questions grow, so that the first is the oldest. A question without answers to come goes before it.
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

/// Questions that are remembered: more than may be asked at the same time by default.
const MAX_QUESTIONS: usize = 1 << 14;
const MAX_SERVERS: u64 = 4096;
