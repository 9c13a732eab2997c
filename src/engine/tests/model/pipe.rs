//! The stream of the model: it accepts a configurable number of bytes, and runs concurrent
//! operations in the middle of a write.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, Weak,
        atomic::{AtomicBool, AtomicU32, Ordering},
        mpsc,
    },
    task::{Context, Poll, Wake, Waker},
};

use roomcast_protocol::{Frame, Stamp};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::super::DEADLINE;
use crate::engine::outbox::{DropPolicy, Mode, Outbox, OutboxInner, Push};

/// The kind of a pushed frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Reliable,
    Volatile,
    Newest,
    LastTwo,
    /// Must arrive, unless a newer one replaces it while it is queued.
    Replacing,
}

impl Kind {
    pub(super) fn mode(self) -> Mode {
        let conflated = |stream, policy| Mode::Conflated { stream, policy };
        match self {
            Self::Reliable | Self::Replacing => Mode::Reliable,
            Self::Volatile => Mode::Volatile,
            Self::Newest => conflated(1, DropPolicy::Newest),
            Self::LastTwo => conflated(2, DropPolicy::Last(2)),
        }
    }
}

/// Creates a frame that contains its kind, its number and padding.
pub(super) fn frame(kind: Kind, number: u32, size: usize) -> Frame {
    let text = format!("{kind:?} {number} {}", "x".repeat(size));
    let frame = Frame::text(text.as_bytes());
    match kind {
        Kind::Reliable => frame.with_stamp(stamp(number)),
        Kind::Replacing => frame.with_stream(3),
        Kind::Volatile | Kind::Newest | Kind::LastTwo => frame,
    }
}

/// Returns the stamp of a reliable frame; all of them belong to one channel.
pub(super) fn stamp(number: u32) -> Stamp {
    Stamp {
        channel: 1,
        number: number.into(),
    }
}

/// An operation of another task during a write.
#[derive(Clone, Debug)]
pub(super) enum ConcurrentStep {
    Push(Kind, usize),
    /// Another task also flushes.
    Flush,
    /// The driver of the session ends.
    Detach,
    Supersede,
}

/// A push and its outcome.
pub(super) type Pushed = (Kind, u32, Push);

#[derive(Default)]
pub(super) struct PipeState {
    /// The number of bytes that are still accepted.
    pub(super) room: usize,
    /// Whether flushing is blocked.
    pub(super) is_clogged: bool,
    pub(super) is_broken: bool,
    pub(super) taken: Vec<u8>,
    pub(super) concurrent_steps: Vec<ConcurrentStep>,
    pub(super) pushed: Vec<Pushed>,
    /// Whether two tasks have written concurrently.
    pub(super) has_overlapped: bool,
    /// The waker of a task that waits for room or for flushing.
    waiting: Option<Waker>,
    outbox: Weak<OutboxInner>,
}

/// The bytes of one WebSocket.
#[derive(Clone, Default)]
pub(super) struct Pipe {
    state: Arc<Mutex<PipeState>>,
    numbers: Arc<AtomicU32>,
}

impl Pipe {
    pub(super) fn new(outbox: &Outbox, room: usize, numbers: &Arc<AtomicU32>) -> Self {
        let state = PipeState {
            room,
            outbox: Arc::downgrade(outbox.inner()),
            ..PipeState::default()
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            numbers: Arc::clone(numbers),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, PipeState> {
        self.state.lock().unwrap()
    }

    /// Changes the state of the stream, and wakes a task that waits for a change.
    pub(super) fn change(&self, change: impl FnOnce(&mut PipeState)) {
        let waiting = {
            let mut state = self.state();
            change(&mut state);
            state.waiting.take()
        };
        if let Some(waker) = waiting {
            waker.wake();
        }
    }

    /// Runs the operations of other tasks in the middle of a write.
    fn act(&self) {
        let (acts, outbox) = {
            let mut state = self.state();
            (
                std::mem::take(&mut state.concurrent_steps),
                state.outbox.upgrade(),
            )
        };
        let Some(outbox) = outbox.map(Outbox::from) else {
            return;
        };
        for act in acts {
            match act {
                ConcurrentStep::Push(kind, size) => {
                    let number = self.numbers.fetch_add(1, Ordering::Relaxed);
                    let push = outbox.push(&frame(kind, number, size), kind.mode());
                    self.state().pushed.push((kind, number, push));
                }
                ConcurrentStep::Flush => {
                    let (done, is_done) = mpsc::channel();
                    let outbox = outbox.clone();
                    std::thread::spawn(move || {
                        outbox.flush();
                        drop(outbox);
                        let _ = done.send(());
                    });
                    // The write that called this holds the lock of the stream, so a second writer
                    // would block.
                    if is_done.recv_timeout(DEADLINE).is_err() {
                        self.state().has_overlapped = true;
                    }
                }
                ConcurrentStep::Detach => drop(outbox.detach()),
                ConcurrentStep::Supersede => outbox.supersede(),
            }
        }
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.act();
        let mut state = self.state();
        if state.is_broken {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let n = bytes.len().min(state.room);
        if n == 0 {
            state.waiting = Some(cx.waker().clone());
            return Poll::Pending;
        }
        state.room -= n;
        state.taken.extend_from_slice(&bytes[..n]);
        Poll::Ready(Ok(n))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.state();
        if state.is_clogged {
            state.waiting = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Pipe {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

/// Set when a driver is woken.
#[derive(Default)]
pub(super) struct Bell(AtomicBool);

impl Bell {
    pub(super) fn has_rung(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}
