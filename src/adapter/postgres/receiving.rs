//! Receives notifications on the listening connection, and processes them.

use std::future::poll_fn;

use tokio::{sync::watch, task::yield_now, time::Instant};
use tokio_postgres::{AsyncMessage, Notification};

use super::{
    broker::{BrokerLink, ReceivedMessage, Target},
    connection::{Attachment, BrokerConnection, Driver},
    inbound::{Inbound, Waiting},
    wire,
};
use crate::adapter::{WireError, common::chain, envelope::NodeId};

impl BrokerLink {
    /// Receives until the connection is closed. Returns the error, if there is one.
    pub(super) async fn receive(
        &self,
        mut driver: Driver,
        own: &str,
        speaks: &watch::Sender<Option<[i32; 2]>>,
        inbound: &[Inbound; 2],
    ) -> Option<String> {
        loop {
            let message = match poll_fn(|cx| driver.poll_message(cx)).await? {
                Ok(message) => message,
                Err(error) => return Some(chain(&error)),
            };
            if let AsyncMessage::Notification(notification) = message {
                self.notified(&notification, own, *speaks.borrow(), inbound);
            }
        }
    }

    fn notified(
        &self,
        notification: &Notification,
        own: &str,
        speaks: Option<[i32; 2]>,
        inbound: &[Inbound; 2],
    ) {
        let [together, apart] = inbound;
        let (channel, text) = (notification.channel(), notification.payload());
        if channel == own && self.probes.has_returned(text.as_bytes()) {
            *self.last_probe.lock() = Some(Instant::now());
            self.outbound.probe_returned();
            self.outbound.up();
            // The probe is processed after all earlier messages. If the queue is full, the next
            // probe has the same effect.
            let _ = together.push(Target::Envelopes, Waiting::Probe, &self.limits);
            return;
        }
        if speaks.is_some_and(|processes| processes.contains(&notification.process_id())) {
            return;
        }
        let target = self.subscriptions.target(channel);
        match target {
            Some(target) => {
                let is_apart = match &target {
                    Target::Namespace(nsp) => self.is_apart(nsp),
                    Target::Envelopes => false,
                };
                let inbound = if is_apart { apart } else { together };
                // Notifications that cannot be opened do not enter the queue.
                match self.openers.open(self.place(&target), text) {
                    Ok(message) => {
                        if !inbound.push(target, message, &self.limits) {
                            self.lost(1);
                        }
                    }
                    Err(error) => self.with_listener(|listener| listener.ignore(&error)),
                }
            }
            None => {
                self.with_listener(|listener| listener.ignore(&WireError::Malformed("channel")))
            }
        }
    }

    /// Processes all messages of the separate namespaces, or all other messages, in the order of
    /// their arrival.
    pub(super) async fn process_inbound(
        &self,
        line: &BrokerConnection,
        uid: &str,
        inbound: &[Inbound; 2],
        is_apart: bool,
    ) -> String {
        let [together, apart] = inbound;
        let inbound = if is_apart { apart } else { together };
        loop {
            for _ in 0..MESSAGES_PER_YIELD {
                let Some((target, message)) = inbound.take() else {
                    inbound.arrived().await;
                    continue;
                };
                if matches!(message, Waiting::Probe) {
                    // Earlier messages in the other queue must have been processed too. If not, the
                    // next probe has the same effect.
                    if apart.is_read() {
                        self.with_listener(|listener| listener.caught_up());
                    }
                    continue;
                }
                if let Err(why) = self.read(line, uid, target, message).await {
                    return why;
                }
                inbound.has_read();
            }
            // Yields to other tasks of this thread.
            yield_now().await;
        }
    }

    async fn read(
        &self,
        line: &BrokerConnection,
        uid: &str,
        target: Target,
        message: Waiting,
    ) -> Result<(), String> {
        let text = match message {
            Waiting::Probe => return Ok(()),
            Waiting::Opened(message) => {
                self.with_listener(|listener| {
                    listener.receive(target, ReceivedMessage::Opened(message))
                });
                return Ok(());
            }
            Waiting::Row { id, name } => {
                let opened = match line.fetch(id).await? {
                    Attachment::Found(row) => {
                        self.openers.open_row(self.place(&target), &name, row)
                    }
                    Attachment::TooLarge => Err(WireError::TooLarge),
                    Attachment::Missing => {
                        self.lost(1);
                        return Ok(());
                    }
                };
                self.with_listener(|listener| match opened {
                    Ok(message) => listener.receive(target, ReceivedMessage::Opened(message)),
                    Err(error) => listener.ignore(&error),
                });
                return Ok(());
            }
            Waiting::Text(text) => text,
        };
        let header = match wire::header(&text) {
            Ok(Some(header)) => header,
            Ok(None) => {
                self.with_listener(|listener| {
                    listener.receive(target, ReceivedMessage::Text(text.into()))
                });
                return Ok(());
            }
            Err(error) => {
                self.with_listener(|listener| listener.ignore(&error));
                return Ok(());
            }
        };
        // Attachments that would be ignored are not fetched: those of this server, and the plain
        // form of sealed messages.
        let node = header.uid.as_deref().and_then(NodeId::new);
        if header.uid.as_deref() == Some(uid)
            || node.is_some_and(|node| self.openers.notifications.seals(&node))
        {
            return Ok(());
        }
        let fetched = line.fetch(header.id).await?;
        self.with_listener(|listener| match fetched {
            Attachment::Found(payload) => {
                listener.receive(target, ReceivedMessage::Attached(payload))
            }
            Attachment::TooLarge => listener.ignore(&WireError::TooLarge),
            Attachment::Missing => listener.lost(1),
        });
        Ok(())
    }
}

/// The number of messages that are processed before the task yields.
const MESSAGES_PER_YIELD: usize = 64;
