//! Which arguments are accepted as commands, and which are refused.

use super::attendance::{Join, Leave};
use super::history::{ReadHistory, SearchMessages};
use super::messages::{EditMessage, SendMessage};
use super::trades::ExecuteTrade;
use crate::service::rules::event::{Argument, Payload};
use crate::store::MessageKind;
use roomcast_protocol::socket::{Decoder, Limits};

fn read<T: Payload>(json: &str) -> serde_json::Result<T> {
    serde_json::from_str::<Argument<T>>(json).map(|Argument(payload)| payload)
}

const ID: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";

#[test]
fn a_conversation_is_joined_by_its_id_or_by_an_object() {
    let join: Join = read(&format!("\"{ID}\"")).unwrap();
    assert_eq!(
        (join.conversation_id.to_string().as_str(), join.last_seq),
        (ID, None)
    );
    for (object, last_seq) in [
        (format!(r#"{{"conversationId":"{ID}"}}"#), None),
        (
            format!(r#"{{"conversationId":"{ID}","lastSeq":null}}"#),
            None,
        ),
        (
            format!(r#"{{"lastSeq":7,"conversationId":"{ID}","x":[]}}"#),
            Some(7),
        ),
    ] {
        let join: Join = read(&object).unwrap();
        assert_eq!(
            (join.conversation_id.to_string().as_str(), join.last_seq),
            (ID, last_seq)
        );
        let leave: Leave = read(&object).unwrap();
        assert_eq!(leave.conversation_id, join.conversation_id);
    }
}

#[test]
fn integers_are_accepted_in_every_json_notation() {
    let history = |limit: &str| {
        let json = format!(r#"{{"conversationId":"{ID}","limit":{limit},"afterSeq":{limit}}}"#);
        read::<ReadHistory>(&json).ok()
    };
    for (limit, expected) in [
        ("50", Some(50)),
        ("50.0", Some(50)),
        ("5e1", Some(50)),
        ("-0", Some(0)),
        ("-0.0", Some(0)),
        ("null", None),
        ("18446744073709551615", Some(u64::MAX)),
        ("9223372036854775808.0", Some(1 << 63)),
    ] {
        let read = history(limit).unwrap();
        assert_eq!(
            (read.limit, read.after_seq),
            (expected, expected),
            "{limit}"
        );
    }
    for limit in [
        "50.5",
        "-1",
        "-1.0",
        "1e300",
        "18446744073709551616",
        "1e999",
        "true",
        "\"50\"",
        "[50]",
        "{}",
    ] {
        assert!(history(limit).is_none(), "{limit}");
    }
    let edit = |version: &str| {
        let json = format!(r#"{{"messageId":"{ID}","content":"x","version":{version}}}"#);
        read::<EditMessage>(&json).ok()
    };
    assert_eq!(edit("2.0").unwrap().version, Some(2));
    assert!(edit("4294967296").is_none());
}

#[test]
fn message_type_is_a_known_string() {
    let send = |kind: &str| {
        let json = format!(r#"{{"conversationId":"{ID}","content":"x","type":{kind}}}"#);
        read::<SendMessage>(&json).map(|message| message.kind)
    };
    assert_eq!(send("\"ai\"").unwrap(), Some(MessageKind::Ai));
    assert_eq!(send("null").unwrap(), None);
    for kind in [
        r#"{"user":null}"#,
        r#"{"ai":null}"#,
        r#"["user"]"#,
        "0",
        r#""User""#,
    ] {
        assert!(send(kind).is_err(), "{kind}");
    }
}

#[test]
fn uppercase_hex_digits_are_accepted_and_lowercased() {
    let join: Join = read(&format!("\"{}\"", ID.to_uppercase())).unwrap();
    assert_eq!(join.conversation_id.to_string(), ID);
}

#[test]
fn search_conversation_is_optional() {
    let search: SearchMessages = read(r#"{"query":"x"}"#).unwrap();
    assert!(search.conversation_id.is_none() && search.before_id.is_none());
    let search = format!(r#"{{"query":"x","conversationId":"{ID}","beforeId":null}}"#);
    let search: SearchMessages = read(&search).unwrap();
    assert_eq!(
        search.conversation_id.map(|id| id.to_string()).as_deref(),
        Some(ID)
    );
    assert!(read::<SearchMessages>(r#"{"query":"x","beforeId":"y"}"#).is_err());
}

#[test]
fn payload_without_a_conversation_id_is_refused() {
    for json in [
        "null",
        "7",
        "[]",
        "{}",
        "\"\"",
        "\"lobby\"",
        "\"0f8fad5bd9cb469fa16570867728950e\"",
        "\"{0f8fad5b-d9cb-469f-a165-70867728950e}\"",
        "\"urn:uuid:0f8fad5b-d9cb-469f-a165-70867728950e\"",
        r#"{"conversationId":"0f8fad5bd9cb469fa16570867728950e"}"#,
        r#"{"conversationId":"{0f8fad5b-d9cb-469f-a165-70867728950e}"}"#,
        r#"{"conversationId":7}"#,
        r#"{"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","lastSeq":-1}"#,
        r#"{"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","lastSeq":1.5}"#,
        r#"{"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","lastSeq":"1"}"#,
    ] {
        assert!(read::<Join>(json).is_err(), "{json}");
    }
}

#[test]
fn an_order_with_a_quantity_that_a_double_rounds_is_refused() {
    let order = |quantity: &str| {
        let json = format!(r#"{{"symbol":"A","side":"buy","quantity":{quantity}}}"#);
        // The packet is decoded as for a handler, whose arguments pass through another layer.
        let packet = format!("2[\"execute:trade\",{json}]");
        let packet = Decoder::new(Limits::default()).text(packet.into());
        let args = packet.unwrap().unwrap().args;
        let read = args.get::<Argument<ExecuteTrade>>(0);
        read.map(|Argument(order)| order.quantity)
            .map_err(|error| error.path().to_owned())
    };
    for (quantity, expected) in [("2", 2.0), ("100.0", 100.0), ("0.1", 0.1), ("1e3", 1000.0)] {
        assert_eq!(order(quantity), Ok(expected), "{quantity}");
    }
    for quantity in [
        "9007199254740993",
        "0.12345678901234567",
        "1e999",
        "\"2\"",
        "null",
    ] {
        assert_eq!(order(quantity), Err("quantity".to_owned()), "{quantity}");
    }
}
