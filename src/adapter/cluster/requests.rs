//! Requests to other servers: which servers must answer, the replies so far, and the deadline.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures_util::FutureExt as _;
use parking_lot::Mutex;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use super::super::{
    envelope::{Item, NodeId, Reply},
    interface::{AdapterError, BoxFuture, Servers},
    operation::Unanswered,
};
use crate::metrics::{Counter, Gauge, Metrics};

/// The pending requests of this server.
pub(super) struct Requests {
    open: Mutex<Open>,
    /// The maximum number of pending requests.
    limit: usize,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Open {
    last: u64,
    pending: HashMap<u64, Arc<Mutex<Pending>>>,
}

/// The state of a request.
#[derive(Default)]
struct Pending {
    ready: VecDeque<(NodeId, Item)>,
    nodes: HashMap<NodeId, Progress>,
    /// The servers that must answer, once known.
    expected: Option<Servers>,
    /// The servers that have left the cluster since the request was sent.
    departed: Vec<NodeId>,
    /// The servers that have just left, with the time until which replies sent before may arrive.
    leaving: Vec<(NodeId, Instant)>,
    /// The current number of servers, if servers are counted and one has left. The first count may
    /// not have included the server that left: Redis no longer counts a killed server, long before
    /// its lease expires.
    present: Option<usize>,
    /// Whether the servers must be counted (again).
    counts: bool,
    error: Option<AdapterError>,
    waker: Option<Waker>,
}

/// The replies of one server so far.
#[derive(Clone, Copy, Default)]
struct Progress {
    total: Option<u32>,
    items: u32,
}

impl Progress {
    fn is_done(&self) -> bool {
        self.total.is_some_and(|total| self.items >= total)
    }
}

/// A pending request. Dropping it releases its slot.
pub(crate) struct Request {
    requests: Arc<Requests>,
    number: u64,
    pending: Arc<Mutex<Pending>>,
    membership: Option<Membership>,
    /// Requests the servers that would have to answer now.
    query_again: Option<Box<dyn Fn() -> Membership + Send + Sync>>,
    deadline: Instant,
    /// Created by the first poll, because sending a request needs no runtime, but waiting does.
    sleep: Option<Pin<Box<Sleep>>>,
    is_late: bool,
}

/// A pending query for the servers that must answer.
type Membership = BoxFuture<Result<Servers, AdapterError>>;

impl Requests {
    pub(super) fn new(limit: usize, metrics: Arc<Metrics>) -> Self {
        Self {
            open: Mutex::default(),
            limit,
            metrics,
        }
    }

    /// Reserves a slot for a request. Returns `None` if all slots are in use.
    pub(super) fn open(self: &Arc<Self>, timeout: Duration) -> Option<Request> {
        let mut open = self.open.lock();
        if open.pending.len() >= self.limit {
            return None;
        }
        open.last += 1;
        let number = open.last;
        let pending: Arc<Mutex<Pending>> = Arc::default();
        open.pending.insert(number, Arc::clone(&pending));
        drop(open);
        self.metrics.shift(Gauge::ClusterRequests, 1);
        Some(Request {
            requests: Arc::clone(self),
            number,
            pending,
            membership: None,
            query_again: None,
            deadline: Instant::now() + timeout.min(LONGEST_TIMEOUT),
            sleep: None,
            is_late: false,
        })
    }

    /// Adds a reply. Returns `false` if no request is waiting for it.
    pub(super) fn settle(&self, from: NodeId, reply: Reply) -> bool {
        let Some(pending) = self.open.lock().pending.get(&reply.request).cloned() else {
            return false;
        };
        let taken = pending.lock().take(from, reply);
        wake(&pending);
        taken
    }

    /// Records that a server has said that it leaves. Its last replies may still arrive, because
    /// they may use another connection than its leave message.
    pub(super) fn leaving(&self, node: &NodeId) {
        let until = Instant::now() + LAST_REPLIES;
        self.each(|pending| {
            if pending.leaving.len() < MAX_NODES {
                pending.leaving.push((node.clone(), until));
            }
        });
    }

    /// Records that a server has left and will not answer.
    pub(super) fn left(&self, node: &NodeId) {
        self.each(|pending| pending.lose(node));
    }

    fn each(&self, change: impl Fn(&mut Pending)) {
        let open: Vec<_> = self.open.lock().pending.values().cloned().collect();
        for pending in open {
            change(&mut pending.lock());
            wake(&pending);
        }
    }
}

fn wake(pending: &Mutex<Pending>) {
    // The waker is called without the lock, because the woken task takes the same lock.
    let waker = pending.lock().waker.take();
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl Pending {
    fn take(&mut self, from: NodeId, reply: Reply) -> bool {
        // Peers choose their names, so the number of names must be bounded.
        if !self.nodes.contains_key(&from) && self.nodes.len() >= MAX_NODES {
            return false;
        }
        let progress = self.nodes.entry(from.clone()).or_default();
        // The first total is final, so that a complete answer stays complete.
        progress.total = progress.total.or(reply.total);
        let Some(item) = reply.item else {
            return true;
        };
        let is_surplus = progress.total.is_some_and(|total| progress.items >= total);
        if is_surplus || self.ready.len() >= MAX_READY {
            return false;
        }
        progress.items += 1;
        self.ready.push_back((from, item));
        true
    }

    /// Gives up the servers whose last replies would have arrived. Returns the time of the next
    /// one.
    fn lose_late(&mut self, now: Instant) -> Option<Instant> {
        let is_late = |(_, until): &(NodeId, Instant)| *until <= now;
        let (late, leaving) = std::mem::take(&mut self.leaving)
            .into_iter()
            .partition(is_late);
        self.leaving = leaving;
        let late: Vec<(NodeId, Instant)> = late;
        for (node, _) in late {
            self.lose(&node);
        }
        self.leaving.iter().map(|(_, until)| *until).min()
    }

    fn lose(&mut self, node: &NodeId) {
        let is_done = self
            .nodes
            .get(node)
            .is_some_and(|progress| progress.is_done());
        if !is_done && !self.departed.contains(node) && self.departed.len() < MAX_NODES {
            self.departed.push(node.clone());
            self.counts = !matches!(self.expected, Some(Servers::Known(_)));
        }
    }

    /// Records the servers that must answer. If they are already known, records the current number
    /// of servers.
    fn learn(&mut self, known: Result<Servers, AdapterError>) {
        match (&self.expected, known) {
            (None, Ok(servers)) => self.expected = Some(servers),
            (None, Err(error)) => self.error = Some(error),
            (Some(_), Ok(Servers::Count(count))) => self.present = Some(count),
            (Some(_), Ok(Servers::Known(_)) | Err(_)) => {}
        }
        // A broker may count a server slightly longer than it is connected, so one count may not be
        // final.
        let is_counted = matches!(self.expected, Some(Servers::Count(_)));
        self.counts = is_counted && !self.departed.is_empty();
    }

    /// Returns whether all replies have arrived: each server that must answer is done or has left.
    fn is_complete(&self) -> bool {
        let has_left = |node: &NodeId| self.departed.contains(node);
        let mut begun = self.nodes.iter();
        let missing = self.missing(Progress::is_done);
        let is_present =
            |(node, progress): &(&NodeId, &Progress)| progress.is_done() && !has_left(node);
        let answered = self.nodes.iter().filter(is_present).count();
        self.expected.is_some()
            && missing.nodes.iter().all(has_left)
            && (missing.unnamed == 0 || self.present.is_some_and(|count| count <= answered))
            && begun.all(|(node, progress)| progress.is_done() || has_left(node))
    }

    /// Returns the servers whose progress does not satisfy `is_enough`.
    fn missing(&self, is_enough: impl Fn(&Progress) -> bool) -> Unanswered {
        let has = |node: &NodeId| self.nodes.get(node).is_some_and(&is_enough);
        let mut missing = Unanswered::default();
        match &self.expected {
            Some(Servers::Known(nodes)) => {
                missing.nodes = nodes.iter().filter(|node| !has(node)).cloned().collect();
            }
            Some(Servers::Count(count)) => {
                let enough = self.nodes.values().filter(|progress| is_enough(progress));
                missing.unnamed = count.saturating_sub(enough.count());
            }
            None => {
                let error = self.error.clone();
                missing.error = Some(error.unwrap_or(AdapterError::Timeout));
            }
        }
        missing
    }
}

impl Request {
    /// Returns the number to which replies refer.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Sets the servers that must answer: the current members, unless they leave.
    pub(super) fn expect(
        &mut self,
        mut membership: Membership,
        query_again: Box<dyn Fn() -> Membership + Send + Sync>,
    ) {
        match (&mut membership).now_or_never() {
            Some(known) => self.pending.lock().learn(known),
            None => self.membership = Some(membership),
        }
        self.query_again = Some(query_again);
    }

    /// Polls the pending membership query. After a server has left, starts a new count.
    fn poll_membership(&mut self, cx: &mut Context<'_>) {
        loop {
            if let Some(membership) = &mut self.membership {
                let Poll::Ready(known) = membership.poll_unpin(cx) else {
                    return;
                };
                self.membership = None;
                self.pending.lock().learn(known);
            }
            let Some(query_again) = &self.query_again else {
                return;
            };
            let mut pending = self.pending.lock();
            if !pending.counts || pending.is_complete() {
                return;
            }
            pending.counts = false;
            // The adapter is called without the lock.
            drop(pending);
            let query = query_again();
            self.membership = Some(Box::pin(async move {
                sleep(RECOUNT).await;
                query.await
            }));
        }
    }

    /// Returns the next item of a reply. Returns `None` after all servers have answered, or at the
    /// deadline.
    pub(crate) async fn next(&mut self) -> Option<(NodeId, Item)> {
        poll_fn(|cx| self.poll(cx)).await
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<(NodeId, Item)>> {
        loop {
            let last_replies = self.pending.lock().lose_late(Instant::now());
            self.poll_membership(cx);
            let mut pending = self.pending.lock();
            // Items that have arrived are returned before anything else is checked, so that a late
            // poll loses nothing.
            if let Some(next) = pending.ready.pop_front() {
                return Poll::Ready(Some(next));
            }
            if self.is_late || pending.is_complete() {
                return Poll::Ready(None);
            }
            let wake = last_replies.map_or(self.deadline, |until| until.min(self.deadline));
            let sleep = self
                .sleep
                .get_or_insert_with(|| Box::pin(sleep_until(wake)));
            if sleep.deadline() != wake {
                sleep.as_mut().reset(wake);
            }
            if sleep.as_mut().poll(cx).is_pending() {
                // The waker is stored under the same lock as the check above, so a later reply
                // finds it.
                pending.waker = Some(cx.waker().clone());
                return Poll::Pending;
            }
            if wake == self.deadline {
                break;
            }
        }
        self.is_late = true;
        self.requests
            .metrics
            .count(Counter::ClusterRequestsTimedOut);
        Poll::Ready(None)
    }

    /// Returns the number of announced items.
    pub(crate) fn announced(&self) -> usize {
        let pending = self.pending.lock();
        let totals = pending.nodes.values().filter_map(|progress| progress.total);
        totals.map(|total| total as usize).sum()
    }

    /// Returns the number of announced items that have not arrived.
    pub(crate) fn outstanding(&self) -> usize {
        let pending = self.pending.lock();
        let left = |progress: &Progress| Some(progress.total?.saturating_sub(progress.items));
        let left = pending.nodes.values().filter_map(left);
        left.map(|items| items as usize).sum()
    }

    /// Counts acknowledgements of clients that did not arrive in time.
    pub(crate) fn count_late(&self, acks: usize) {
        self.requests
            .metrics
            .add(Counter::AcksTimedOut, acks as u64);
    }

    /// Returns the servers that have not answered completely.
    pub(crate) fn missing(&self) -> Unanswered {
        self.pending.lock().missing(Progress::is_done)
    }

    /// Returns the servers that have not announced the number of their items.
    pub(crate) fn silent(&self) -> Unanswered {
        let has_begun = |progress: &Progress| progress.total.is_some();
        self.pending.lock().missing(has_begun)
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        // Replies that arrive later find no request and are counted as unknown.
        self.requests.open.lock().pending.remove(&self.number);
        self.requests.metrics.shift(Gauge::ClusterRequests, -1);
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

/// The time in which replies may follow the leave message of their server. Both may be on the way
/// over different connections, and wait in different queues.
const LAST_REPLIES: Duration = Duration::from_secs(1);
/// The delay before servers are counted after a server has left, and the interval between counts.
const RECOUNT: Duration = Duration::from_millis(250);
/// The maximum number of items that wait for the requesting task. Further items are dropped.
const MAX_READY: usize = 1 << 16;
/// The maximum number of servers that may answer one request.
const MAX_NODES: usize = 4096;
/// The maximum timeout. It is short enough to be added to any `Instant`.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(366 * 86_400);

#[cfg(test)]
mod tests {
    use std::future::ready;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(3600);

    /// Creates a request for which `first` servers are counted at first, and `later` servers in
    /// later counts.
    fn request(first: usize, later: usize) -> (Arc<Requests>, Request) {
        let requests = Arc::new(Requests::new(9, Arc::default()));
        let mut request = requests.open(TIMEOUT).unwrap();
        let count = |count| -> Membership { Box::pin(ready(Ok(Servers::Count(count)))) };
        request.expect(count(first), Box::new(move || count(later)));
        (requests, request)
    }

    fn node(name: &str) -> NodeId {
        NodeId::new(name).unwrap()
    }

    /// Answers a request without items.
    fn answer(requests: &Requests, number: u64, name: &str) {
        let reply = Reply::new(node("me"), number, Some(0), None);
        assert!(requests.settle(node(name), reply));
    }

    #[tokio::test(start_paused = true)]
    async fn departure_of_uncounted_server_does_not_end_the_request() {
        let (requests, mut request) = request(1, 1);
        let number = request.number();
        requests.left(&node("killed long ago"));
        let replying = async {
            // Longer than several counts take.
            sleep(4 * RECOUNT).await;
            answer(&requests, number, "slow");
        };
        let (next, ()) = tokio::join!(request.next(), replying);
        assert!(next.is_none());
        assert!(request.missing().is_empty(), "{:?}", request.missing());
    }

    #[tokio::test(start_paused = true)]
    async fn last_replies_may_follow_the_leave_message() {
        let (requests, mut request) = request(1, 0);
        let start = Instant::now();
        let number = request.number();
        requests.leaving(&node("gone"));
        let replying = async {
            sleep(LAST_REPLIES / 2).await;
            answer(&requests, number, "gone");
        };
        let (next, ()) = tokio::join!(request.next(), replying);
        assert!(next.is_none());
        assert!(request.missing().is_empty(), "{:?}", request.missing());
        assert!(start.elapsed() < LAST_REPLIES);
    }

    #[tokio::test(start_paused = true)]
    async fn missing_last_replies_end_the_wait_for_a_server_that_leaves() {
        let (requests, mut request) = request(1, 0);
        let start = Instant::now();
        requests.leaving(&node("gone"));
        assert!(request.next().await.is_none());
        assert!(start.elapsed() >= LAST_REPLIES);
        assert!(start.elapsed() < TIMEOUT);
        assert_eq!(request.missing().unnamed, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn departure_of_counted_server_ends_the_wait_for_it() {
        for answers_first in [true, false] {
            let (requests, mut request) = request(2, 1);
            let start = Instant::now();
            let number = request.number();
            if answers_first {
                answer(&requests, number, "quick");
            }
            requests.left(&node("gone"));
            if !answers_first {
                answer(&requests, number, "quick");
            }
            assert!(request.next().await.is_none());
            assert!(start.elapsed() < TIMEOUT, "it has waited to the end");
            assert_eq!(request.missing().unnamed, 1);
        }
    }
}
