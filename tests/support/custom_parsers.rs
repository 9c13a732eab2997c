//! Two packet formats: that of `socket.io-json-parser`, and one with binary messages after a text.

use bytes::Bytes;
use roomcast::{
    Value,
    parser::{CustomMessage, CustomPacket, CustomParser, CustomParserError},
};
use serde::{Deserialize, Serialize};

/// A packet as `JSON.stringify` writes it.
#[derive(Serialize, Deserialize)]
struct Fields {
    #[serde(rename = "type")]
    code: u8,
    nsp: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Value>,
    /// Number of binary messages that follow.
    #[serde(default, skip_serializing_if = "is_zero")]
    binary: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl Fields {
    fn of(packet: &CustomPacket, data: Option<Value>, binary: usize) -> Self {
        Self {
            code: packet.code,
            nsp: packet.nsp.clone(),
            id: packet.id,
            data,
            binary,
        }
    }

    fn text(&self) -> Result<CustomMessage, CustomParserError> {
        Ok(CustomMessage::Text(serde_json::to_string(self)?))
    }

    fn packet(self, data: Option<Value>) -> CustomPacket {
        CustomPacket {
            code: self.code,
            nsp: self.nsp,
            id: self.id,
            data,
        }
    }
}

/// A format in which each packet is one JSON object, without binary.
pub(crate) struct JsonObjects;

impl CustomParser for JsonObjects {
    fn name(&self) -> &'static str {
        "json objects"
    }

    fn encode(&self, packet: &CustomPacket) -> Result<Vec<CustomMessage>, CustomParserError> {
        if packet.data.as_ref().is_some_and(Value::has_binary) {
            return Err("JSON has no binary".into());
        }
        Ok(vec![Fields::of(packet, packet.data.clone(), 0).text()?])
    }

    fn decode(
        &self,
        messages: &[CustomMessage],
    ) -> Result<Option<CustomPacket>, CustomParserError> {
        let [CustomMessage::Text(text)] = messages else {
            return Err("a packet is one text".into());
        };
        let mut fields: Fields = serde_json::from_str(text)?;
        let data = fields.data.take();
        Ok(Some(fields.packet(data)))
    }
}

/// A format of JSON objects in which `{"$binary":0}` stands for the first binary message that
/// follows.
pub(crate) struct Bundles;

const PLACE: &str = "$binary";

impl CustomParser for Bundles {
    fn name(&self) -> &'static str {
        "bundles"
    }

    fn encode(&self, packet: &CustomPacket) -> Result<Vec<CustomMessage>, CustomParserError> {
        let mut binary = Vec::new();
        let data = packet.data.as_ref().map(|data| take(data, &mut binary));
        let mut messages = vec![Fields::of(packet, data, binary.len()).text()?];
        messages.extend(binary.into_iter().map(CustomMessage::Binary));
        Ok(messages)
    }

    fn decode(
        &self,
        messages: &[CustomMessage],
    ) -> Result<Option<CustomPacket>, CustomParserError> {
        let [CustomMessage::Text(text), rest @ ..] = messages else {
            return Err("a packet begins with a text".into());
        };
        let mut fields: Fields = serde_json::from_str(text)?;
        let mut binary = Vec::new();
        for message in rest {
            match message {
                CustomMessage::Binary(data) => binary.push(data.clone()),
                CustomMessage::Text(_) => return Err("a text among binary messages".into()),
            }
        }
        if binary.len() < fields.binary {
            return Ok(None);
        }
        assert!(fields.nsp != "/panic", "a fault of the parser");
        let data = fields.data.take().map(|data| give(data, &binary));
        Ok(Some(fields.packet(data.transpose()?)))
    }
}

fn take(value: &Value, binary: &mut Vec<Bytes>) -> Value {
    match value {
        Value::Binary(data) => {
            let place = serde_json::json!({ PLACE: binary.len() });
            binary.push(data.clone());
            place.into()
        }
        Value::Array(values) => {
            Value::Array(values.iter().map(|value| take(value, binary)).collect())
        }
        Value::Object(fields) => {
            let field = |(key, value): (&String, &Value)| (key.clone(), take(value, binary));
            Value::Object(fields.iter().map(field).collect())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

fn give(value: Value, binary: &[Bytes]) -> Result<Value, CustomParserError> {
    Ok(match value {
        Value::Array(values) => {
            let values = values.into_iter().map(|value| give(value, binary));
            Value::Array(values.collect::<Result<_, _>>()?)
        }
        Value::Object(fields) => {
            if let Some(Value::Number(number)) = fields.get(PLACE) {
                let place = number.as_u64().and_then(|n| usize::try_from(n).ok());
                let data = place.and_then(|place| binary.get(place));
                return Ok(Value::Binary(data.ok_or("no such binary")?.clone()));
            }
            let field = |(key, value)| Ok((key, give(value, binary)?));
            let fields = fields.into_iter().map(field);
            Value::Object(fields.collect::<Result<_, CustomParserError>>()?)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Binary(_) => {
            value
        }
    })
}
