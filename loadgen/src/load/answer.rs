//! Parses acknowledgements and events of a server: refusals, and the message numbers of the
//! Roomcast chat.

use roomcast_protocol::socket::{Args, Kind, Packet};
use serde::Deserialize;
use serde_json::Value;

use super::stamp::position;

/// Returns why a server refused a request, if its acknowledgement is `{success: false, error}`.
pub(crate) fn refusal(args: &Args) -> Option<String> {
    let json = args.raw(0)?;
    // Searching for these bytes first avoids parsing every acknowledgement.
    position(json, b"\"success\":false")?;
    #[derive(Deserialize)]
    struct Acknowledgement {
        success: bool,
        error: Option<Value>,
    }
    let answer: Acknowledgement = serde_json::from_slice(json).ok()?;
    (!answer.success).then(|| reason(answer.error.as_ref()))
}

/// Returns why a server refused a request, if this is an event that reports an error.
pub(crate) fn error_event(packet: &Packet) -> Option<String> {
    let is_error = matches!(packet.event_name(), "error" | "exception");
    (packet.kind == Kind::Event && is_error)
        .then(|| reason(packet.args.get::<Value>(0).ok().as_ref()))
}

/// Returns the short name of an error that a server sent.
fn reason(error: Option<&Value>) -> String {
    let text = error.and_then(|error| {
        let fields = ["code", "message", "error"].map(|key| error.get(key));
        let mut texts = [Some(error)].into_iter().chain(fields).flatten();
        texts.find_map(Value::as_str)
    });
    text.unwrap_or("no reason given").chars().take(80).collect()
}

/// Returns the `seq` of the message in an event, if there is one.
pub(crate) fn seq(args: &Args) -> Option<u64> {
    let json = args.raw(0)?;
    let start = position(json, NAME)? + NAME.len();
    let digits = json.get(start..)?.iter();
    // Nineteen digits fit into 64 bits.
    let digits = digits.take_while(|byte| byte.is_ascii_digit()).take(19);
    digits.fold(None, |value: Option<u64>, digit| {
        Some(value.unwrap_or(0) * 10 + u64::from(digit - b'0'))
    })
}

const NAME: &[u8] = b"\"seq\":";

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use roomcast_protocol::socket::{Decoder, Limits};

    use super::*;

    #[test]
    fn a_refusal_is_known_by_its_success() {
        let refused = |json: &str| {
            let text = Bytes::from(format!("31[{json}]"));
            let packet = Decoder::new(Limits::default()).text(text).unwrap().unwrap();
            refusal(&packet.args)
        };
        let error = r#"{"success":false,"error":{"code":"RATE_LIMITED","message":"slow"}}"#;
        assert_eq!(refused(error).as_deref(), Some("RATE_LIMITED"));
        assert_eq!(
            refused(r#"{"success":false}"#).as_deref(),
            Some("no reason given")
        );
        for fine in [r#"{"success":true}"#, "", "1", r#""\"success\":false""#] {
            assert_eq!(refused(fine), None, "{fine}");
        }
    }

    #[test]
    fn the_number_of_a_message_is_found_in_its_event() {
        let args = |json: &str| {
            let text = Bytes::from(format!("2[\"message\",{json}]"));
            let packet = Decoder::new(Limits::default()).text(text).unwrap();
            packet.unwrap().args
        };
        assert_eq!(seq(&args(r#"{"id":"x","seq":120,"a":1}"#)), Some(120));
        for none in [r#"{"seq":"x"}"#, "{}", "1"] {
            assert_eq!(seq(&args(none)), None, "{none}");
        }
    }
}
