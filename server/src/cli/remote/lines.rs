//! Streams of lines from a running server.

use std::time::Duration;

use http::Response;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::timeout;

use super::refusal;
use crate::auth::jwt::jwks::FetchError;

/// Passes the lines of a response to a function, except empty ones. It returns whether the line is
/// the last. The inner error is the reason of a refusal, of an early end, or of the function.
pub(super) async fn read_lines(
    response: Response<Incoming>,
    mut take: impl FnMut(&str) -> Result<bool, String>,
) -> Result<Result<(), String>, FetchError> {
    let status = response.status();
    let mut body = response.into_body();
    let mut rest = Vec::new();
    let mut has_ended = false;
    // The server sends at least an empty line every few seconds.
    while let Some(frame) = timeout(SILENCE, body.frame())
        .await
        .map_err(|_| FetchError::Broken)?
    {
        let frame = frame.map_err(FetchError::Http)?;
        rest.extend_from_slice(&frame.into_data().unwrap_or_default());
        if rest.len() > MAX_LINE {
            return Err(FetchError::TooLarge(MAX_LINE));
        }
        if !status.is_success() {
            continue;
        }
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end();
            if !line.is_empty() {
                match take(line) {
                    Ok(is_last) => has_ended = is_last,
                    Err(reason) => return Ok(Err(reason)),
                }
            }
        }
    }
    if !status.is_success() {
        return Ok(Err(refusal(status, &String::from_utf8_lossy(&rest))));
    }
    Ok(if has_ended {
        Ok(())
    } else {
        Err("the server ended the stream early".to_owned())
    })
}

/// Maximum bytes of a line.
const MAX_LINE: usize = 1 << 20;
/// The time without any line after which the server counts as gone.
const SILENCE: Duration = Duration::from_secs(20);
