//! Sends messages on a connection to NATS, and processes its acknowledgements.

use std::{future::pending, pin::pin, sync::atomic::Ordering, time::Duration};

use async_nats::{
    Client,
    client::RequestErrorKind,
    jetstream::{Context, context::PublishErrorKind},
};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream::FuturesUnordered};

use super::{
    broker::{BrokerLink, Message},
    streams::StreamRetry,
};
use crate::{
    adapter::common::{Broker as _, InFlightMessages, chain},
    time::while_awake,
};

impl BrokerLink {
    /// Counts a message that this user lacks the permission to send. Returns whether the error is
    /// such a refusal. All other errors end the connection.
    pub(super) fn is_forbidden(&self, why: &str) -> bool {
        let is = self.subjects.is_forbidden(why);
        if is {
            self.outbound.refused(1, why);
            // With JetStream, the missing acknowledgement is counted instead.
            if !self.is_stored.load(Ordering::Relaxed) {
                self.lost(1);
            }
            self.forbidden.send_modify(|count| *count += 1);
        }
        is
    }

    /// Waits until NATS has read all earlier messages. A client does not know this after a write,
    /// and NATS without JetStream sends no acknowledgements. But it answers requests in order, even
    /// if the answer is that there are no responders.
    async fn confirm(client: &Client) -> Result<(), String> {
        let request = client.request(CONFIRMATION_SUBJECT, Bytes::new());
        let answer = while_awake(ACK_TIMEOUT, request).await;
        match answer.ok_or_else(|| SILENT.to_owned())? {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == RequestErrorKind::NoResponders => Ok(()),
            Err(error) => Err(chain(&error)),
        }
    }

    pub(super) async fn publish_all(
        &self,
        client: &Client,
        context: Option<&Context>,
    ) -> Result<(), String> {
        let mut has_begun = context.is_none();
        while let Some(mut batch) = self.next().await {
            let mut in_flight = InFlightMessages::new(self.losses(&batch), |lost| self.lost(lost));
            // A new stream may not accept messages yet. The first message is retried until it is
            // accepted, and the other messages follow in order.
            let first = batch.iter().position(|message| !message.is_pulse);
            if let Some(first) = first.filter(|_| !has_begun) {
                has_begun = true;
                let rest = batch.split_off(first + 1);
                self.publish_batch(
                    client,
                    context,
                    batch,
                    &mut in_flight,
                    Some(StreamRetry::new()),
                )
                .await?;
                batch = rest;
            }
            self.publish_batch(client, context, batch, &mut in_flight, None)
                .await?;
        }
        // The client has its own buffer, and the program may end when this returns.
        client.flush().await.map_err(|error| chain(&error))
    }

    /// Sends a batch. If `settling` is set, the batch contains at most one message for the stream.
    async fn publish_batch(
        &self,
        client: &Client,
        context: Option<&Context>,
        batch: Vec<Message>,
        in_flight: &mut InFlightMessages<impl Fn(u64)>,
        settling: Option<StreamRetry>,
    ) -> Result<(), String> {
        let most = self.max_payload.load(Ordering::Relaxed);
        // All unstored messages, and those whose loss counts.
        let (mut sent_unstored, mut counted_unstored) = (0, 0);
        let mut forbidden = self.forbidden.subscribe();
        let forbidden_before = *forbidden.borrow_and_update();
        let mut first = None;
        let mut acknowledged = FuturesUnordered::new();
        for message in batch {
            if message.payload.len() > most {
                // The message was queued before the limit of this NATS was known. It never counts
                // as arrived, so it is counted as lost at the end of its batch.
                let bytes = message.payload.len();
                let why = format!("{bytes} bytes are more than the {most} that it takes");
                self.outbound.refused(1, &why);
                continue;
            }
            let Message {
                subject,
                payload,
                is_pulse,
                counts,
            } = message;
            let counted = u64::from(counts);
            match context.filter(|_| !is_pulse) {
                Some(context) => {
                    if settling.is_some() {
                        first = Some((context, subject.clone(), payload.clone()));
                    }
                    let published = context.publish(subject, payload).await;
                    let published = published.map_err(|error| chain(&error))?;
                    acknowledged.push(counted_answer(counted, published.into_future()));
                }
                None => {
                    let published = client.publish(subject, payload).await;
                    published.map_err(|error| chain(&error))?;
                    sent_unstored += u64::from(!is_pulse);
                    counted_unstored += counted;
                }
            }
        }
        // The whole batch is sent before the first acknowledgement is awaited, so all
        // acknowledgements take one round trip.
        let mut silence = pin!(while_awake(ACK_TIMEOUT, pending::<()>()));
        while !acknowledged.is_empty() {
            // Forbidden messages are never acknowledged.
            let refused = *forbidden.borrow_and_update() - forbidden_before;
            if acknowledged.len() as u64 <= refused {
                break;
            }
            let answer = tokio::select! {
                answer = acknowledged.next() => answer,
                _ = forbidden.changed() => continue,
                _ = &mut silence => return Err(SILENT.to_owned()),
            };
            match answer {
                Some((counted, Ok(stored))) => {
                    self.acknowledged
                        .fetch_max(stored.sequence, Ordering::Relaxed);
                    in_flight.arrived(counted);
                }
                Some((counted, Err(error))) if error.kind() == PublishErrorKind::StreamNotFound => {
                    let why = chain(&error);
                    let (Some(settling), Some((context, subject, payload))) = (&settling, &first)
                    else {
                        // The next connection creates the stream again.
                        return Err(why);
                    };
                    if !settling.should_retry().await {
                        return Err(why);
                    }
                    self.stream(context).await?;
                    let again = context.publish(subject.clone(), payload.clone()).await;
                    let again = again.map_err(|error| chain(&error))?;
                    acknowledged.push(counted_answer(counted, again.into_future()));
                }
                Some((_, Err(error))) => self.outbound.refused(1, &chain(&error)),
                None => break,
            }
        }
        if sent_unstored > 0 {
            Self::confirm(client).await?;
            // Forbidden messages were counted when NATS reported them.
            in_flight.arrived(counted_unstored);
        }
        Ok(())
    }
}

/// Waits for the answer to a message. Returns 1 with it if the loss of the message counts, and 0
/// otherwise.
async fn counted_answer<T>(counted: u64, answer: impl Future<Output = T>) -> (u64, T) {
    (counted, answer.await)
}

const SILENT: &str = "NATS does not acknowledge messages";
/// The timeout for an acknowledgement of NATS.
const ACK_TIMEOUT: Duration = Duration::from_secs(5);
/// The subject of a request whose only purpose is a response, from JetStream if it is available.
const CONFIRMATION_SUBJECT: &str = "$JS.API.INFO";
