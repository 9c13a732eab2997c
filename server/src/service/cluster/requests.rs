//! Requests that every other server of the store answers.

use serde::{Serialize, de::DeserializeOwned};

use super::announcer::{Announcer, NAMESPACE};
use super::wire::Ignored;
use roomcast::{Ack, Builder, Io, errors::ServerSideError, handler::ServerSide};

/// Registers what answers the requests of other servers that have this name. A request without an
/// answer counts as unanswered.
///
/// Must be called only in a cluster, where no client can enter the namespace for messages between
/// servers.
pub(in crate::service) fn answer_requests<Q, A, F>(
    io: Builder,
    announcer: &Announcer,
    name: &'static str,
    answer: impl Fn(Io, Q) -> F + Clone + Send + Sync + 'static,
) -> Builder
where
    Q: DeserializeOwned + Send,
    A: Serialize,
    F: Future<Output = Option<A>> + Send,
{
    let announcer = announcer.clone();
    io.namespace(NAMESPACE, |namespace| {
        namespace.on_server_side(name, move |event: ServerSide| {
            let (announcer, answer) = (announcer.clone(), answer.clone());
            async move {
                let text: String = event.arg(0).unwrap_or_default();
                let answer = match announcer.read::<Q>(&text) {
                    Ok(request) => {
                        let answer = answer(event.io().clone(), request).await;
                        answer.and_then(|answer| announcer.write(&answer))
                    }
                    // A server of another store must not wait for the answer. This answer contains
                    // the store id of this server.
                    Err(Ignored::Foreign) => announcer.write(&()),
                    // A server of another version may send an unknown request, which gets an empty
                    // answer.
                    Err(Ignored::Malformed | Ignored::Unknown) => None,
                };
                Ack(answer.unwrap_or_default())
            }
        })
    })
}

/// Returns the answers of the other servers, and the number of those that have not answered.
pub(in crate::service) async fn request_peers<Q: Serialize, A: DeserializeOwned>(
    io: &Io,
    announcer: Option<&Announcer>,
    name: &str,
    request: &Q,
) -> (Vec<A>, usize) {
    // Without other servers the request would only run into its timeout.
    if io.nodes().len() < 2 {
        return (Vec::new(), 0);
    }
    let Some(announcer) = announcer else {
        return (Vec::new(), 0);
    };
    let Some(text) = announcer.write(request) else {
        return (Vec::new(), io.nodes().len() - 1);
    };
    let namespace = io.of(NAMESPACE);
    let replies = namespace.server_side_emit_with_acks::<String>(name, text);
    let (texts, mut missing) = match replies.await {
        Ok(texts) => (texts, 0),
        Err(ServerSideError::Timeout(partial)) => {
            let missing = partial.missing();
            (partial.answers(), missing.nodes.len() + missing.unnamed)
        }
        Err(error) => {
            roomcast::throttled_log!(warn, %error, "could not send a request to other servers");
            (Vec::new(), io.nodes().len() - 1)
        }
    };
    let mut answers = Vec::new();
    for text in &texts {
        match announcer.read(text) {
            Ok(answer) => answers.push(answer),
            // Servers of another store that share the broker have nothing that could be missing.
            Err(Ignored::Foreign) => {}
            // A server of another version, or one with an empty answer, counts as missing: the list
            // must not look complete.
            Err(Ignored::Malformed | Ignored::Unknown) => missing += 1,
        }
    }
    (answers, missing)
}
