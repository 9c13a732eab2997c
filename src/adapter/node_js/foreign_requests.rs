//! Requests of Node servers that are not answered yet.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use roomcast_protocol::socket::{Args, Nsp};

use super::{FOREIGN_REQUEST_BIT, Request};
use crate::{
    adapter::{
        envelope::{Item, Publication, Reply},
        operation::Kind,
    },
    names::Room,
};

/// The pending requests of Node servers. Node servers identify requests by arbitrary strings; here
/// each request also gets a number.
#[derive(Debug, Default)]
pub(crate) struct ForeignRequests(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    last: u64,
    /// Pending requests in the order of their arrival.
    open: BTreeMap<u64, Open>,
}

#[derive(Debug)]
struct Open {
    origin: RequestOrigin,
    kind: ExpectedResponse,
    until: Instant,
    total: Option<u32>,
    items: u32,
    /// The parts of a list of sockets, which the response contains all at once.
    sockets: Vec<Args>,
}

#[derive(Clone, Copy, Debug)]
enum ExpectedResponse {
    Acknowledgements,
    Sockets,
    Answer,
}

/// The origin of a request.
#[derive(Clone, Debug)]
pub(crate) struct RequestOrigin {
    pub(crate) namespace: Nsp,
    pub(crate) request: Request,
}

/// A response to a Node server.
#[derive(Debug)]
pub(crate) enum Response {
    Count(u32),
    Acknowledgement(Args),
    Sockets(Vec<Args>),
    Answer(Args),
    Rooms(Vec<Room>),
}

impl ForeignRequests {
    /// Registers a request and returns its number. If too many requests are pending, it drops the
    /// oldest.
    pub(crate) fn open(&self, request: Request, publication: &Publication) -> u64 {
        let now = Instant::now();
        let mut table = self.0.lock();
        let table = &mut *table;
        while let Some(oldest) = table.open.first_entry()
            && oldest.get().until < now
        {
            oldest.remove();
        }
        if table.open.len() >= MAX_OPEN {
            // An unexpired request may precede many expired requests.
            table.open.retain(|_, open| open.until >= now);
        }
        if table.open.len() >= MAX_OPEN {
            table.open.pop_first();
        }
        // The upper bit marks the numbers that are assigned here, so the counter wraps below it.
        table.last = (table.last + 1) & !FOREIGN_REQUEST_BIT;
        let number = table.last | FOREIGN_REQUEST_BIT;
        let timeout = publication.timeout.unwrap_or_default().min(LONGEST);
        let open = Open {
            origin: RequestOrigin {
                namespace: publication.namespace.clone(),
                request,
            },
            kind: match publication.kind {
                Kind::BroadcastWithAck { .. } => ExpectedResponse::Acknowledgements,
                Kind::FetchSockets => ExpectedResponse::Sockets,
                Kind::ServerSideWithAck { .. }
                | Kind::Broadcast { .. }
                | Kind::Join(_)
                | Kind::Leave(_)
                | Kind::Disconnect { .. }
                | Kind::ServerSide { .. } => ExpectedResponse::Answer,
            },
            until: now + timeout + SPARE,
            total: None,
            items: 0,
            sockets: Vec::new(),
        };
        table.open.insert(number, open);
        number
    }

    /// Converts a reply of this server to a response for the requesting server. Returns `None` if
    /// there is no response, or no response yet.
    pub(crate) fn answer(&self, reply: Reply) -> Option<(RequestOrigin, Response)> {
        let mut table = self.0.lock();
        let open = table.open.get_mut(&reply.request)?;
        let origin = open.origin.clone();
        let is_count = reply.item.is_none();
        if let Some(total) = reply.total {
            open.total.get_or_insert(total);
        }
        open.items += u32::from(!is_count);
        let is_done = open.total.is_some_and(|total| open.items >= total);
        let response = match reply.item {
            Some(Item::Acknowledgement { args, .. }) => args.map(Response::Acknowledgement),
            Some(Item::Answer(args)) => Some(Response::Answer(args)),
            Some(Item::Sockets(list)) => {
                open.sockets.push(list);
                is_done.then(|| Response::Sockets(std::mem::take(&mut open.sockets)))
            }
            // Node servers without a handler also send no answer.
            None => match (open.kind, reply.total) {
                (ExpectedResponse::Acknowledgements, Some(total)) => Some(Response::Count(total)),
                (ExpectedResponse::Sockets, Some(0)) => Some(Response::Sockets(Vec::new())),
                (
                    ExpectedResponse::Acknowledgements
                    | ExpectedResponse::Sockets
                    | ExpectedResponse::Answer,
                    _,
                ) => None,
            },
        };
        if is_done {
            table.open.remove(&reply.request);
        }
        response.map(|response| (origin, response))
    }
}

/// The maximum number of pending requests.
const MAX_OPEN: usize = 1 << 14;
/// The time that a request stays pending after its own timeout.
const SPARE: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(86_400);
