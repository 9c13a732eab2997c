//! JetStream streams, which the first server creates for all servers.

use std::time::Duration;

use async_nats::jetstream::{
    self, Context,
    context::{CreateStreamError, CreateStreamErrorKind},
    stream::{Config, Stream},
};
use tokio::time::{Instant, sleep};

/// Returns the stream with this name. Creates it if it does not exist.
pub(super) async fn open(context: &Context, config: Config) -> Result<Stream, CreateStreamError> {
    let settling = StreamRetry::new();
    loop {
        let opened = context.get_or_create_stream(config.clone()).await;
        match opened {
            // NATS returns this error to some servers if several create the same stream
            // concurrently.
            Err(error) if is_overlap(&error) && settling.should_retry().await => {}
            opened => return opened,
        }
    }
}

/// A timeout for retries on a new stream. NATS reports a stream before all servers can use it and
/// before it accepts messages.
pub(super) struct StreamRetry(Instant);

impl StreamRetry {
    pub(super) fn new() -> Self {
        Self(Instant::now() + STREAM_READY_TIMEOUT)
    }

    /// Waits for a short time, and returns whether to retry.
    pub(super) async fn should_retry(&self) -> bool {
        sleep(POLL_INTERVAL).await;
        Instant::now() < self.0
    }
}

/// Returns whether creating the stream failed because this NATS, or the account, has no JetStream.
pub(super) fn has_no_jetstream(error: &CreateStreamError) -> bool {
    match error.kind() {
        CreateStreamErrorKind::JetStreamUnavailable => true,
        CreateStreamErrorKind::JetStream(fault) => is_absent(&fault),
        CreateStreamErrorKind::EmptyStreamName
        | CreateStreamErrorKind::InvalidStreamName
        | CreateStreamErrorKind::DomainAndExternalSet
        | CreateStreamErrorKind::TimedOut
        | CreateStreamErrorKind::Response
        | CreateStreamErrorKind::NotFound
        | CreateStreamErrorKind::ResponseParse => false,
    }
}

fn is_absent(fault: &jetstream::Error) -> bool {
    use jetstream::ErrorCode;
    [
        ErrorCode::JETSTREAM_NOT_ENABLED,
        ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT,
    ]
    .contains(&fault.error_code())
}

fn is_overlap(error: &CreateStreamError) -> bool {
    matches!(
        error.kind(),
        CreateStreamErrorKind::JetStream(fault)
            if fault.error_code() == jetstream::ErrorCode::STREAM_SUBJECT_OVERLAP
    )
}

/// Maximum time until all servers can use a new stream.
const STREAM_READY_TIMEOUT: Duration = Duration::from_secs(1);
/// The delay between retries.
const POLL_INTERVAL: Duration = Duration::from_millis(10);
