//! Frames that a WebSocket sends apart from all others.
//!
//! A server may read several frames at once and handle them out of order: Node's drops an event if a
//! `DISCONNECT` was read together with it, and ends the session if a `CONNECT` was read together
//! with a `DISCONNECT` of the same namespace. A separate frame therefore waits until the server has
//! answered a ping (RFC 6455, 5.5.2) that follows everything before it. What follows the frame waits
//! for the answer to a second ping.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    sync::oneshot,
    time::{Sleep, sleep},
};

/// The parts of what is to be sent that wait for the answer to a ping.
///
/// The last part always takes further frames, and the parts with separate frames are never last.
#[derive(Debug, Default)]
pub(super) struct Barriers {
    parts: VecDeque<Part>,
    /// The number in the ping that the first part waits for.
    ping: u64,
    /// When the first part stops waiting. Runs from when its ping was written.
    deadline: Option<Pin<Box<Sleep>>>,
    /// Whether the server has left a ping unanswered.
    is_ignored: bool,
}

#[derive(Debug, Default)]
struct Part {
    frames: Vec<u8>,
    is_separate: bool,
    /// The callers that wait until everything before this part was handled.
    waiters: Vec<oneshot::Sender<()>>,
}

/// What a caller must write as soon as a part is added or released.
#[derive(Debug, Default)]
pub(super) struct Released {
    /// Frames that may leave now.
    pub(super) frames: Vec<u8>,
    /// The content of a ping that must follow them.
    pub(super) ping: Option<[u8; 8]>,
}

impl Barriers {
    /// Returns whether frames wait, or a caller does.
    pub(super) fn is_active(&self) -> bool {
        !self.parts.is_empty()
    }

    /// Returns the number of bytes that wait.
    pub(super) fn queued(&self) -> usize {
        self.parts.iter().map(|part| part.frames.len()).sum()
    }

    /// Returns the buffer for further frames, if these must wait.
    pub(super) fn last(&mut self) -> Option<&mut Vec<u8>> {
        self.parts.back_mut().map(|part| &mut part.frames)
    }

    /// Adds a separate frame. `waiter` is notified when the server has handled it.
    pub(super) fn add(&mut self, frame: &[u8], waiter: Option<oneshot::Sender<()>>) -> Released {
        if self.is_ignored {
            // The waiter is dropped, which ends its wait.
            return Released {
                frames: frame.to_vec(),
                ping: None,
            };
        }
        let is_first = self.parts.is_empty();
        let count = self.parts.len();
        let ends_empty = self.parts.back().is_some_and(|last| last.frames.is_empty());
        let before = count.checked_sub(2).and_then(|at| self.parts.get_mut(at));
        match before.filter(|part| part.is_separate && ends_empty) {
            Some(part) => part.frames.extend_from_slice(frame),
            None => {
                let mut part = match ends_empty {
                    true => self.parts.pop_back().unwrap_or_default(),
                    false => Part::default(),
                };
                part.is_separate = true;
                part.frames.extend_from_slice(frame);
                self.parts.push_back(part);
                self.parts.push_back(Part::default());
            }
        }
        if let Some(last) = self.parts.back_mut() {
            last.waiters.extend(waiter);
        }
        Released {
            frames: Vec::new(),
            ping: is_first.then(|| self.next_ping()),
        }
    }

    /// Takes the answer to a ping.
    pub(super) fn answered(&mut self, content: &[u8]) -> Released {
        if !self.is_active() || content != self.ping.to_be_bytes() {
            return Released::default();
        }
        let frames = self.release();
        Released {
            frames,
            ping: self.is_active().then(|| self.next_ping()),
        }
    }

    /// Ready with all frames when the server takes too long to answer. Called when everything
    /// before the first part was written.
    pub(super) fn poll_ignored(&mut self, cx: &mut Context<'_>) -> Poll<Vec<u8>> {
        let deadline = self
            .deadline
            .get_or_insert_with(|| Box::pin(sleep(ANSWER_TIMEOUT)));
        if deadline.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.is_ignored = true;
        let mut frames = Vec::new();
        while self.is_active() {
            frames.append(&mut self.release());
        }
        Poll::Ready(frames)
    }

    fn next_ping(&mut self) -> [u8; 8] {
        self.ping += 1;
        self.ping.to_be_bytes()
    }

    fn release(&mut self) -> Vec<u8> {
        self.deadline = None;
        let part = self.parts.pop_front().unwrap_or_default();
        for waiter in part.waiters {
            // The caller may have stopped waiting.
            let _ = waiter.send(());
        }
        part.frames
    }
}

/// How long a server may take to answer a ping. Two of them end before the time of `disconnect`.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(barriers: &mut Barriers) -> (Vec<u8>, bool) {
        let ping = barriers.ping.to_be_bytes();
        let released = barriers.answered(&ping);
        (released.frames, released.ping.is_some())
    }

    #[test]
    fn separate_frame_waits_for_the_ping_before_it_and_delays_what_follows() {
        let mut barriers = Barriers::default();
        assert!(barriers.last().is_none());
        let (sender, mut handled) = oneshot::channel();
        let added = barriers.add(b"D", Some(sender));
        assert!(added.frames.is_empty() && added.ping.is_some());
        barriers.last().unwrap().extend_from_slice(b"next");
        assert_eq!(barriers.queued(), 5);
        assert_eq!(answer(&mut barriers), (b"D".to_vec(), true));
        assert!(handled.try_recv().is_err());
        assert_eq!(answer(&mut barriers), (b"next".to_vec(), false));
        assert!(handled.try_recv().is_ok());
        assert!(!barriers.is_active());
    }

    #[test]
    fn consecutive_separate_frames_leave_together() {
        let mut barriers = Barriers::default();
        barriers.add(b"A", None);
        assert!(barriers.add(b"B", None).ping.is_none());
        assert_eq!(answer(&mut barriers), (b"AB".to_vec(), true));
        // The frame before this one has left, and its answer has not come.
        barriers.add(b"C", None);
        assert_eq!(answer(&mut barriers), (b"C".to_vec(), true));
        assert_eq!(answer(&mut barriers), (Vec::new(), false));
    }

    #[test]
    fn pong_without_its_ping_releases_nothing() {
        let mut barriers = Barriers::default();
        barriers.add(b"D", None);
        assert!(barriers.answered(b"other").frames.is_empty());
        assert!(barriers.is_active());
    }

    #[tokio::test(start_paused = true)]
    async fn server_that_ignores_pings_gets_all_frames_in_order() {
        let mut barriers = Barriers::default();
        barriers.add(b"D", None);
        barriers.last().unwrap().extend_from_slice(b"next");
        let frames = std::future::poll_fn(|cx| barriers.poll_ignored(cx)).await;
        assert_eq!(frames, b"Dnext");
        let added = barriers.add(b"E", None);
        assert_eq!((added.frames, added.ping), (b"E".to_vec(), None));
    }
}
