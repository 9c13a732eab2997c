//! Stores growing texts, and ends those that nobody extends or whose authors may no longer write.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tokio::time::{Instant, sleep, sleep_until};
use uuid::Uuid;

use super::OpenText;
use crate::auth::Permission;
use crate::service::authorization::LostAccess;
use crate::service::chat::handle::{Chat, now};
use crate::store::{Change, Extension, Finish, IDLE_MARGIN, Origin, StoreError, Time};

impl Chat {
    /// Stores growing texts together, at most four times a second, and at least once a second if
    /// the store can. Never returns.
    pub(crate) async fn store_texts(self) {
        loop {
            self.0.streams.grown.notified().await;
            let next = Instant::now() + STORE_INTERVAL;
            while let Err(error) = self.store_grown().await {
                sleep(error.retry_after().min(STORE_INTERVAL)).await;
            }
            sleep_until(next).await;
        }
    }

    async fn store_grown(&self) -> Result<(), StoreError> {
        let open = self.0.streams.all();
        let parts = open.len().div_ceil(PART);
        let idle = self.0.streams.limits.timeout / 2;
        for part in open.chunks(PART) {
            let grown = part.iter();
            let extensions: Vec<Extension> = grown
                .filter_map(|open| open.lock().extension(idle))
                .collect();
            if extensions.is_empty() {
                continue;
            }
            let begin = Instant::now();
            let taken = self.0.store.extend_streams(&extensions).await?;
            for extension in &extensions {
                let held = self.0.streams.held(extension.message_id, extension.holder);
                let Some(open) = held else { continue };
                let mut open = open.lock();
                open.storing = None;
                if taken.contains(&extension.message_id) {
                    open.stored = open.stored.max(extension.from + extension.chars);
                    open.kept = now();
                }
            }
            // SQLite uses the cores of the server, which sends text in the meantime.
            let longest = MAX_STORE_TIME / u32::try_from(parts).unwrap_or(u32::MAX);
            sleep((begin.elapsed() * PAUSE).min(longest)).await;
        }
        Ok(())
    }

    /// Ends messages that nobody extends, or whose authors may no longer write. Never returns.
    pub(crate) async fn end_texts(self) {
        let mut round = 0_u32;
        let mut failed_at = None;
        loop {
            sleep(SWEEP_INTERVAL).await;
            round = round.wrapping_add(1);
            // Messages of servers that ended are looked for less often. After an outage, other
            // servers first store what their authors have added since.
            let is_settled = failed_at.is_none_or(|at: Instant| at.elapsed() > SETTLING);
            let looks_around = round % 5 == 1 && is_settled;
            if let Err(error) = self.sweep(looks_around).await {
                failed_at = Some(Instant::now());
                tracing::debug!(%error, "could not look for messages that nobody extends");
            }
        }
    }

    async fn sweep(&self, looks_around: bool) -> Result<(), StoreError> {
        let streams = &self.0.streams;
        // Sockets of these authors are disconnected, if they have any. Requests check themselves.
        let access = &self.0.access;
        self.interrupt_all(|open| {
            let lost = || access.recheck(&open.author, Permission::ChatSend);
            open.stop.is_none() && matches!(lost(), Err(LostAccess::Revoked))
        });
        for part in streams.all().chunks(BATCH) {
            let ids: Vec<Uuid> = part.iter().map(|open| open.lock().message_id).collect();
            let held = self.0.store.held_streams(ids).await?;
            let mut ends = Vec::new();
            for open in part {
                let mut open = open.lock();
                let (id, holder) = (open.message_id, open.holder);
                let idle = now().saturating_duration_since(open.touched);
                let is_idle = idle > streams.limits.timeout;
                let found = held.iter().find(|held| held.message_id == id);
                if found.is_some_and(|held| held.holder != holder) {
                    // Its author has continued it at another server.
                    drop(open);
                    streams.forget_held(id, holder);
                } else if is_idle || found.is_none() {
                    ends.push(open.interrupted(String::new()));
                }
            }
            // None takes more text from here on, however long the others take.
            let ended = stream::iter(ends).map(|end| self.store_interrupted(end));
            let ended: Vec<_> = ended.buffer_unordered(ENDED_TOGETHER).collect().await;
            ended.into_iter().collect::<Result<(), _>>()?;
        }
        if looks_around {
            let margin = streams.limits.timeout + IDLE_MARGIN;
            let since = Time::now().before(margin);
            for place in self.0.store.idle_streams(since, BATCH).await? {
                let finish = Finish {
                    message_id: place.message_id,
                    interrupted: Some(String::new()),
                    idle_since: Some(since),
                    ..Finish::default()
                };
                self.0
                    .store
                    .finish_stream(finish, Origin::default())
                    .await?;
            }
        }
        Ok(())
    }

    /// Ends the messages that a socket writes, because the server has disconnected it.
    pub(in crate::service::chat) fn interrupt_of(&self, socket: &roomcast::SocketId) {
        self.interrupt_all(|open| open.socket.as_ref() == Some(socket));
    }

    /// Ends the messages of a user in a conversation from which it was removed.
    pub(in crate::service::chat) fn interrupt_removed(&self, conversation: Uuid, user: &str) {
        self.interrupt_all(|open| {
            open.conversation_id == conversation && open.author.subject == user
        });
    }

    /// Ends messages where they are. They take no more text once this returns, before their ends
    /// are stored. After a failure, the sweep ends those whose authors may no longer write.
    fn interrupt_all(&self, is_meant: impl Fn(&OpenText) -> bool) {
        for open in self.0.streams.all() {
            let finish = {
                let mut open = open.lock();
                if open.is_ending || !is_meant(&open) {
                    continue;
                }
                open.interrupted(String::new())
            };
            let chat = self.clone();
            tokio::spawn(async move { chat.store_interrupted(finish).await });
        }
    }

    /// Stores the end of a message, unless it has ended or another server writes it.
    async fn store_interrupted(&self, finish: Finish) -> Result<(), StoreError> {
        if let Change::Done(message) = self.store_end(finish, None).await? {
            tracing::debug!(message_id = %message.id, conversation = %message.conversation_id, "message interrupted");
        }
        Ok(())
    }
}

impl OpenText {
    /// Returns the text to store next. It is empty if the author has only repeated what is there
    /// for this long: other servers would take the author for gone.
    fn extension(&mut self, idle: Duration) -> Option<Extension> {
        if self.storing.is_none() {
            let text = self.text.lock();
            let chars = text.end().checked_sub(self.stored)?;
            if chars == 0 && self.touched.saturating_duration_since(self.kept) < idle {
                return None;
            }
            self.storing = Some(Box::new(Extension {
                message_id: self.message_id,
                holder: self.holder,
                from: self.stored,
                text: text.since(self.stored)?.to_owned(),
                chars,
            }));
        }
        self.storing.as_deref().cloned()
    }
}

/// The shortest time between two additions to the stored text of a message.
const STORE_INTERVAL: Duration = Duration::from_millis(250);
/// The time in which all growing texts are stored, if the store can.
const MAX_STORE_TIME: Duration = Duration::from_millis(750);
/// The number of texts that are stored in one transaction.
const PART: usize = 200;
/// The pause after a transaction, as a multiple of its duration.
const PAUSE: u32 = 4;
/// The interval between two looks for messages that nobody extends.
const SWEEP_INTERVAL: Duration = Duration::from_millis(500);
/// The time after a failure of the store in which no messages of other servers are ended.
const SETTLING: Duration = Duration::from_secs(10);
/// The number of messages whose ends are stored at the same time.
const ENDED_TOGETHER: usize = 16;
/// The number of messages that are looked for together.
const BATCH: usize = 1000;
