//! What servers of other kinds have asked and are not answered yet.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use roomcast_protocol::socket::{Args, Nsp};

use super::{FOREIGN, Request};
use crate::{
    adapter::{
        envelope::{Item, Publication, Reply},
        operation::Kind,
    },
    names::Room,
};

/// The questions of other kinds of servers, which call them by any text, under numbers of ours.
#[derive(Debug, Default)]
pub(crate) struct Asked(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    last: u64,
    /// In the order in which they came.
    open: BTreeMap<u64, Open>,
}

#[derive(Debug)]
struct Open {
    question: Question,
    kind: Wanted,
    until: Instant,
    total: Option<u32>,
    items: u32,
    /// Sockets are told all at once.
    sockets: Vec<Args>,
}

#[derive(Clone, Copy, Debug)]
enum Wanted {
    Acknowledgements,
    Sockets,
    Answer,
}

/// Who has asked, where.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub(crate) namespace: Nsp,
    pub(crate) request: Request,
}

/// What is to be answered.
#[derive(Debug)]
pub(crate) enum Response {
    Count(u32),
    Acknowledgement(Args),
    Sockets(Vec<Args>),
    Answer(Args),
    Rooms(Vec<Room>),
}

impl Asked {
    /// Notes a question and numbers it. Where too many wait the oldest is forgotten.
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
            // A question with much time may stand before many whose time is over.
            table.open.retain(|_, open| open.until >= now);
        }
        if table.open.len() >= MAX_OPEN {
            table.open.pop_first();
        }
        // The upper bit marks the numbers that are given here, so the counter begins anew below it.
        table.last = (table.last + 1) & !FOREIGN;
        let number = table.last | FOREIGN;
        let patience = publication.timeout.unwrap_or_default().min(LONGEST);
        let open = Open {
            question: Question {
                namespace: publication.namespace.clone(),
                request,
            },
            kind: match publication.kind {
                Kind::BroadcastWithAck { .. } => Wanted::Acknowledgements,
                Kind::FetchSockets => Wanted::Sockets,
                Kind::ServerSideWithAck { .. }
                | Kind::Broadcast { .. }
                | Kind::Join(_)
                | Kind::Leave(_)
                | Kind::Disconnect { .. }
                | Kind::ServerSide { .. } => Wanted::Answer,
            },
            until: now + patience + SPARE,
            total: None,
            items: 0,
            sockets: Vec::new(),
        };
        table.open.insert(number, open);
        number
    }

    /// What one of our replies says to whoever has asked; `None` if that is nothing, or nothing yet.
    pub(crate) fn answer(&self, reply: Reply) -> Option<(Question, Response)> {
        let mut table = self.0.lock();
        let open = table.open.get_mut(&reply.request)?;
        let question = open.question.clone();
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
            // Node servers without a handler say nothing either.
            None => match (open.kind, reply.total) {
                (Wanted::Acknowledgements, Some(total)) => Some(Response::Count(total)),
                (Wanted::Sockets, Some(0)) => Some(Response::Sockets(Vec::new())),
                (Wanted::Acknowledgements | Wanted::Sockets | Wanted::Answer, _) => None,
            },
        };
        if is_done {
            table.open.remove(&reply.request);
        }
        response.map(|response| (question, response))
    }
}

/// Questions that may wait for an answer of this server.
const MAX_OPEN: usize = 1 << 14;
/// How long a question is kept beyond the time that it has.
const SPARE: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(86_400);
