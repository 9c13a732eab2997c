//! A message whose text is the body of a request, sent to its readers while it arrives.

use std::sync::Arc;

use axum::{
    Extension, Json,
    body::Body,
    extract::{Request, State},
    http::StatusCode,
};
use http_body_util::BodyExt as _;
use roomcast::internal::RetryAfter;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

use super::{Stored, id_or_none, on_behalf, pieces::Pieces, report};
use crate::http::api::{Api, ApiError, By, Parameters, error::Id, once};
use crate::metrics::trace::TraceContext;
use crate::service::bounds::{ClientId, UserId, UserName};
use crate::service::streams::BeginMessage;
use crate::service::{Message, MessageKind, RequestWriter, WriteEnd, Written, word};

/// A message whose text is the body.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct NewStream {
    /// The user who sends the message. Default: the caller.
    #[schemars(with = "Option<UserId>")]
    user_id: Option<String>,
    /// The name of that user. Default: the id.
    #[schemars(with = "Option<UserName>")]
    user_name: Option<String>,
    #[serde(rename = "type", default, deserialize_with = "word")]
    /// `ai` needs the permission `chat:send_ai`. Default `user`.
    kind: MessageKind,
    /// A request that is repeated under the same id goes on with the message. It sends the body
    /// from its beginning.
    #[schemars(with = "Option<ClientId>")]
    client_message_id: Option<String>,
    /// The message of the same conversation that this one replies to.
    #[serde(default, deserialize_with = "id_or_none")]
    reply_to: Option<Uuid>,
    /// Where the text is in the `data` of each event, for `text/event-stream`: names and numbers
    /// with dots between them, such as `choices.0.delta.content`.
    select: Option<String>,
}

pub(super) async fn stream(
    State(at): State<Api>,
    Extension(by): By,
    Id(conversation_id): Id,
    Parameters(new): Parameters<NewStream>,
    request: Request,
) -> Result<(StatusCode, Json<Stored>), ApiError> {
    let in_name = on_behalf(new.user_id, new.user_name)?;
    let begin = BeginMessage {
        conversation_id,
        kind: Some(new.kind),
        metadata: None,
        client_message_id: new
            .client_message_id
            .unwrap_or_else(|| format!("http:{}", Uuid::new_v4())),
        reply_to: new.reply_to,
        mentions: None,
    };
    let allowed = at.access.allow_served(Arc::clone(&by), in_name, begin)?;
    let pieces = Pieces::new(request.headers(), new.select)?;
    // A caller that disconnects drops this future. The message must end then.
    let written = TraceContext::spawn(async move {
        let namespace = at.namespace();
        let service = Arc::clone(&by);
        let written = at.chat.write_message(service, allowed, &namespace).await?;
        report(&at, &by.subject, conversation_id);
        match written {
            Written::Before(message) => Ok(message),
            Written::Now(writer) => write(writer, pieces, request.into_body()).await,
        }
    });
    let message = written.await.unwrap_or_else(|_| Err(once::failed()))?;
    Ok((StatusCode::CREATED, Json(Stored { message })))
}

/// Writes a message, and ends it whatever happens.
async fn write(
    mut writer: RequestWriter,
    pieces: Pieces,
    body: Body,
) -> Result<Arc<Message>, ApiError> {
    let error = match copy(&mut writer, pieces, body).await {
        Ok(()) => match writer.finish().await {
            Ok(message) => return Ok(message),
            Err(error) => Failure::Refused(error.into()),
        },
        Err(failure) => failure,
    };
    // A message that goes on elsewhere, or has ended, must not be ended.
    let reason = match &error {
        Failure::Ended(WriteEnd::Shutdown | WriteEnd::Ended) => None,
        // The caller may repeat the request.
        Failure::Refused(error) if error.status == StatusCode::SERVICE_UNAVAILABLE => None,
        Failure::Ended(WriteEnd::Stopped(user)) => Some(format!("stopped by {user}")),
        Failure::Ended(WriteEnd::Idle | WriteEnd::Lost(_))
        | Failure::Refused(_)
        | Failure::Disconnected => Some(String::new()),
    };
    if let Some(reason) = reason {
        // If it cannot be stored now, the message ends when nobody has extended it for a while.
        let _ = writer.interrupt(reason).await;
    }
    Err(error.into())
}

/// Why the text of a request is not whole.
enum Failure {
    Refused(ApiError),
    Ended(WriteEnd),
    Disconnected,
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self::Refused(error)
    }
}

impl From<Failure> for ApiError {
    fn from(failure: Failure) -> Self {
        let conflict = |message| Self::new(StatusCode::CONFLICT, "CONFLICT", message);
        match failure {
            Failure::Refused(error) => error,
            Failure::Disconnected => Self::invalid("the body ends early"),
            Failure::Ended(WriteEnd::Stopped(user)) => {
                conflict(format!("{user} has asked to stop"))
            }
            Failure::Ended(WriteEnd::Ended) => {
                conflict("the message has ended, or is written by another request".to_owned())
            }
            Failure::Ended(WriteEnd::Idle) => {
                let message = "no text has arrived for too long (chat.streams.timeout)";
                Self::new(StatusCode::REQUEST_TIMEOUT, "TIMEOUT", message)
            }
            Failure::Ended(WriteEnd::Lost(_)) => {
                let message = "the caller or the user may no longer write";
                Self::new(StatusCode::FORBIDDEN, "FORBIDDEN", message)
            }
            Failure::Ended(WriteEnd::Shutdown) => {
                let message = "the server shuts down: go on under the same clientMessageId";
                let status = StatusCode::SERVICE_UNAVAILABLE;
                let refusal = Self::new(status, "STORE_UNAVAILABLE", message);
                refusal.retry_after(RetryAfter::new(crate::http::api::GRACE))
            }
        }
    }
}

/// Appends the text of a body while it arrives. Text that arrives faster than the limits permit
/// waits, and the caller with it.
async fn copy(writer: &mut RequestWriter, pieces: Pieces, mut body: Body) -> Result<(), Failure> {
    let mut waiting = String::new();
    let mut pieces = Some(pieces);
    let mut next = Instant::now();
    while pieces.is_some() || !waiting.is_empty() {
        tokio::select! {
            biased;
            end = writer.ended() => return Err(Failure::Ended(end)),
            () = sleep_until(next), if !waiting.is_empty() => {
                next = Instant::now() + writer.pace();
                match writer.append(&waiting).await.map_err(ApiError::from)? {
                    None => waiting.clear(),
                    Some(delay) => next = Instant::now() + delay.duration(),
                }
            }
            part = body.frame(), if pieces.is_some() && waiting.len() < MAX_WAITING => {
                let part = part.transpose().map_err(|_| Failure::Disconnected)?;
                let more = match (part, &mut pieces) {
                    (Some(part), Some(pieces)) => {
                        let part = part.into_data().unwrap_or_default();
                        pieces.push(&part)?
                    }
                    _ => pieces.take().map(Pieces::end).transpose()?.unwrap_or_default(),
                };
                waiting.push_str(&more);
            }
        }
    }
    Ok(())
}

/// The size of the text that waits, in bytes, from which on no more of the body is read.
const MAX_WAITING: usize = 16 << 10;
