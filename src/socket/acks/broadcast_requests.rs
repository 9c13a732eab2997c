//! The pending answers of many clients to one broadcast.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    task::Waker,
};

use parking_lot::Mutex;
use roomcast_protocol::socket::Args;

use crate::socket::types::{AckError, IdSet, SocketId};

#[derive(Default)]
pub(crate) struct Answers {
    pub(crate) outstanding: IdSet,
    pub(crate) ready: VecDeque<(SocketId, Result<Args, AckError>)>,
    pub(crate) waker: Option<Waker>,
}

/// The open requests of a namespace.
#[derive(Default)]
pub(crate) struct BroadcastRequests(Mutex<HashMap<u64, Arc<Mutex<Answers>>>>);

impl BroadcastRequests {
    pub(crate) fn insert(&self, id: u64, answers: Arc<Mutex<Answers>>, limit: usize) -> bool {
        let mut open = self.0.lock();
        let room = open.len() < limit;
        if room {
            open.insert(id, answers);
        }
        room
    }

    pub(crate) fn remove(&self, id: u64) {
        self.0.lock().remove(&id);
    }

    /// Stores an answer. Returns whether the request expects it.
    pub(crate) fn resolve(&self, id: u64, from: &SocketId, args: &Args) -> bool {
        let Some(answers) = self.0.lock().get(&id).cloned() else {
            return false;
        };
        settle(&answers, from, || Ok(args.clone()))
    }

    /// Fails all answers that a disconnected client owes.
    pub(crate) fn leave(&self, id: &SocketId) {
        // The requests are cloned, so that the lock of the table and the lock of a request are
        // never held together.
        let open: Vec<_> = self.0.lock().values().cloned().collect();
        for answers in open {
            settle(&answers, id, || Err(AckError::Disconnected));
        }
    }
}

fn settle(
    answers: &Mutex<Answers>,
    from: &SocketId,
    answer: impl FnOnce() -> Result<Args, AckError>,
) -> bool {
    let mut answers = answers.lock();
    if !answers.outstanding.remove(from) {
        return false;
    }
    answers.ready.push_back((from.clone(), answer()));
    let waker = answers.waker.take();
    // The waker is called without the lock, because the woken task acquires it.
    drop(answers);
    if let Some(waker) = waker {
        waker.wake();
    }
    true
}
