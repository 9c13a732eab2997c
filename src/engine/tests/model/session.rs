//! One session of the model: an outbox, its stream or polls, and a minimal driver.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Waker},
};

use tokio::sync::oneshot::{self, error::TryRecvError};

use super::pipe::{Bell, Kind, Pipe, Pushed, frame};
use crate::engine::{
    outbox::{Attaching, Control, IterationRemains, Outbox, PendingPoll, PollAnswer, PollOutcome},
    transport::Stream,
};

pub(super) struct Session {
    pub(super) outbox: Outbox,
    pub(super) pipe: Option<Pipe>,
    bell: Arc<Bell>,
    /// The poll of the client.
    poll: Option<oneshot::Receiver<PollAnswer>>,
    /// Polls that wait for a WebSocket being attached.
    polls: Vec<PendingPoll>,
    attaching: Option<Attaching>,
    is_closing: bool,
    /// The driver has ended.
    pub(super) is_over: bool,
    /// Texts that have arrived.
    texts: Vec<String>,
    polled: u64,
    pub(super) drained: usize,
    /// Frames pushed at the end of the next iteration, after the driver has written.
    pub(super) late: Vec<(Kind, usize)>,
    pub(super) pushed: Vec<Pushed>,
    numbers: Arc<AtomicU32>,
}

impl Session {
    pub(super) fn new(outbox: Outbox, numbers: &Arc<AtomicU32>) -> Self {
        let mut session = Self {
            outbox,
            pipe: None,
            bell: Arc::default(),
            poll: None,
            polls: Vec::new(),
            attaching: None,
            is_closing: false,
            is_over: false,
            texts: Vec::new(),
            polled: 0,
            drained: 0,
            late: Vec::new(),
            pushed: Vec::new(),
            numbers: Arc::clone(numbers),
        };
        session.run_iteration(None);
        session
    }

    /// Upgrades to a WebSocket in an iteration of the driver.
    pub(super) fn upgrade(&mut self, room: usize) {
        if self.pipe.is_none() && !self.is_closing && !self.is_over {
            self.run_iteration(Some(Pipe::new(&self.outbox, room, &self.numbers)));
            self.attaching = None;
        }
    }

    fn switch(&mut self, pipe: Pipe) {
        let stream = Stream::other(Box::new(pipe.clone()));
        let memory = self.outbox.memory();
        let pending = self.outbox.lock().switch(stream, memory);
        self.pipe = Some(pipe);
        if let Some(pending) = pending {
            let _ = pending.answer_noop();
        }
        self.bell.clone_waker().wake();
    }

    /// Announces a WebSocket.
    pub(super) fn attach(&mut self) {
        if self.pipe.is_none() && self.attaching.is_none() && !self.is_over {
            self.attaching = Some(Attaching::new(self.outbox.clone()));
        }
    }

    pub(super) fn abandon(&mut self) {
        self.attaching = None;
    }

    /// Polls, unless a poll is already waiting.
    pub(super) fn poll(&mut self) {
        self.receive();
        if self.pipe.is_some() || self.poll.is_some() {
            return;
        }
        self.polled += 1;
        match self.outbox.poll(self.polled) {
            PollOutcome::Answered(answer) => self.take(answer),
            PollOutcome::Waiting(answered) => self.poll = Some(answered),
            PollOutcome::Unknown => assert!(self.is_over),
        }
    }

    /// Closes the connection of the client's poll.
    pub(super) fn give_up(&mut self) {
        self.receive();
        if self.poll.take().is_some() {
            self.outbox
                .control(Control::PollAborted { id: self.polled });
        }
    }

    /// Receives everything that has arrived.
    pub(super) fn receive(&mut self) -> Vec<String> {
        if let Some(answered) = &mut self.poll {
            match answered.try_recv() {
                Ok(answer) => {
                    self.poll = None;
                    self.take(answer);
                }
                Err(TryRecvError::Closed) => self.poll = None,
                Err(TryRecvError::Empty) => {}
            }
        }
        if let Some(pipe) = &self.pipe {
            let mut state = pipe.state();
            assert!(!state.has_overlapped, "two have written at the same time");
            let mut rest = &state.taken[..];
            while let Some((text, after)) = split(rest) {
                self.texts.push(text);
                rest = after;
            }
            state.taken = rest.to_vec();
        }
        std::mem::take(&mut self.texts)
    }

    fn take(&mut self, answer: PollAnswer) {
        if let PollAnswer::Payload {
            packets: payload, ..
        } = answer
        {
            let text = String::from_utf8(payload.to_vec()).unwrap();
            let packets = text.split('\x1e').map(str::to_owned);
            self.texts.extend(packets);
        }
    }

    /// Returns whether a poll waits although frames are queued, or frames are not written although
    /// the WebSocket has room.
    pub(super) fn is_forgotten(&self) -> bool {
        let queue = self.outbox.lock();
        let has_way = match &self.pipe {
            Some(pipe) => {
                let state = pipe.state();
                state.room > 0 && !state.is_clogged
            }
            None => queue.has_poll(),
        };
        has_way && !self.is_over && !queue.is_empty()
    }

    /// Runs an iteration of the driver if it was woken.
    pub(super) fn run_if_woken(&mut self) -> bool {
        let is_woken = self.bell.has_rung() && !self.is_over;
        if is_woken {
            self.run_iteration(None);
        }
        is_woken
    }

    fn run_iteration(&mut self, upgrade: Option<Pipe>) {
        let waker = self.bell.clone_waker();
        let mut cx = Context::from_waker(&waker);
        let state = self.outbox.begin_iteration();
        if state.closed.is_some() && !self.is_closing {
            self.end();
            return;
        }
        self.drained += usize::from(state.drained);
        if state.blocked {
            self.wait_writable(&mut cx);
        }
        if let Some(pipe) = upgrade {
            self.switch(pipe);
        }
        self.take_control();
        self.outbox.flush();
        if self.is_closing {
            self.close(&mut cx);
        }
        for (kind, size) in std::mem::take(&mut self.late) {
            let number = self.numbers.fetch_add(1, Ordering::Relaxed);
            let push = self.outbox.push(&frame(kind, number, size), kind.mode());
            self.pushed.push((kind, number, push));
        }
        if !self.is_over {
            let rest = IterationRemains {
                is_ending: self.is_closing,
                has_polls: !self.polls.is_empty(),
                has_posts: false,
                takes_polls: !self.is_closing && self.polls.is_empty(),
            };
            self.outbox.end_iteration(&cx, &rest);
        }
    }

    fn take_control(&mut self) {
        let (control, is_attaching) = {
            let mut queue = self.outbox.lock();
            (queue.take_control(), queue.is_attaching())
        };
        for control in control {
            match control {
                Control::Poll(pending) => self.polls.push(pending),
                Control::PollAborted { id } => {
                    let arrived = self.polls.len();
                    self.polls.retain(|pending| pending.id != id);
                    if self.polls.len() < arrived || self.outbox.lock().take_poll_of(id).is_some() {
                        self.end();
                    }
                }
                Control::Close(reason) => {
                    self.outbox.lock().seal(reason);
                    self.is_closing = true;
                }
                Control::PollLost
                | Control::Post { .. }
                | Control::Attach { .. }
                | Control::Leave(_)
                | Control::Abort(_) => self.end(),
            }
        }
        if !is_attaching && let Some(pending) = self.polls.pop() {
            if self.pipe.is_some() {
                pending.refuse();
            } else {
                let mut queue = self.outbox.lock();
                assert!(!queue.has_poll());
                queue.store_poll(pending);
            }
        }
    }

    fn wait_writable(&self, cx: &mut Context<'_>) -> bool {
        let Some(stream) = self.outbox.stream() else {
            return false;
        };
        let is_ready = stream.poll_write_ready(cx).is_ready();
        self.outbox.set_writable(is_ready);
        is_ready
    }

    /// Flushes the queue, then ends the session.
    fn close(&mut self, cx: &mut Context<'_>) {
        if self.pipe.is_some() {
            if self.outbox.lock().is_blocked() {
                if self.wait_writable(cx) {
                    cx.waker().wake_by_ref();
                }
            } else if self.outbox.lock().is_drained() {
                self.end();
            } else {
                cx.waker().wake_by_ref();
            }
        } else {
            let poll = self.outbox.lock().take_poll();
            if let Some(pending) = poll {
                let frames = self.outbox.take_for_poll(usize::MAX);
                if frames.is_empty() || !pending.answer(&frames) {
                    self.end();
                }
            }
        }
    }

    /// Ends the driver.
    pub(super) fn end(&mut self) {
        self.is_over = true;
        self.polls.clear();
        self.outbox.detach();
    }
}

impl Bell {
    fn clone_waker(self: &Arc<Self>) -> Waker {
        Arc::clone(self).into()
    }
}

/// Returns the first message of a WebSocket, if it has arrived completely.
fn split(bytes: &[u8]) -> Option<(String, &[u8])> {
    let (header, size) = match (bytes.get(1)?, bytes) {
        (126, [_, _, a, b, ..]) => (4, usize::from(u16::from_be_bytes([*a, *b]))),
        (126.., _) => return None,
        (&size, _) => (2, usize::from(size)),
    };
    let text = bytes.get(header..header + size)?;
    let rest = &bytes[header + size..];
    Some((String::from_utf8(text.to_vec()).unwrap(), rest))
}
