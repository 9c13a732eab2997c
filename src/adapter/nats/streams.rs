//! The streams of JetStream, which whoever comes first makes for all.

use std::time::Duration;

use async_nats::jetstream::{
    self, Context,
    context::{CreateStreamError, CreateStreamErrorKind},
    stream::{Config, Stream},
};
use tokio::time::{Instant, sleep};

/// The stream with this name, which is made if there is none.
pub(super) async fn open(context: &Context, config: Config) -> Result<Stream, CreateStreamError> {
    let settling = Settling::new();
    loop {
        let opened = context.get_or_create_stream(config.clone()).await;
        match opened {
            // NATS says so to some of those who make the same stream at the same time.
            Err(error) if is_overlap(&error) && settling.goes_on().await => {}
            opened => return opened,
        }
    }
}

/// The time in which a stream that was made a moment ago may not be there for all yet: NATS tells of it before it takes messages.
pub(super) struct Settling(Instant);

impl Settling {
    pub(super) fn new() -> Self {
        Self(Instant::now() + PATIENCE)
    }

    /// Waits a little, and tells whether that is to be tried again that has failed.
    pub(super) async fn goes_on(&self) -> bool {
        sleep(PAUSE).await;
        Instant::now() < self.0
    }
}

/// Whether no stream was made because this NATS, or the account, has no JetStream.
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

/// How long a stream may take to be there for all, and how often is tried.
const PATIENCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(10);
