//! The protobuf messages of OTLP.

use std::time::{Duration, SystemTime};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse},
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value},
    resource::v1::Resource,
    trace::v1::{self as proto, ResourceSpans, ScopeSpans, Status, span, status},
};
use prost::Message as _;

use crate::metrics::trace::{AttributeValue, Span, SpanKind};

/// Describes this server to the collector.
pub(super) fn resource(service_name: &str, node: &str) -> Resource {
    let attributes = [
        ("service.name", service_name),
        ("service.version", env!("CARGO_PKG_VERSION")),
        ("service.instance.id", node),
    ];
    Resource {
        attributes: attributes
            .map(|(name, value)| key_value(name, AttributeValue::from(value)))
            .into(),
        ..Resource::default()
    }
}

/// Encodes a request with these spans.
pub(super) fn request(resource: &Resource, spans: &[Span]) -> Vec<u8> {
    let scope = InstrumentationScope {
        name: "roomcast".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    };
    let scope_spans = ScopeSpans {
        scope: Some(scope),
        spans: spans.iter().map(encode).collect(),
        ..ScopeSpans::default()
    };
    let request = ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(resource.clone()),
            scope_spans: vec![scope_spans],
            ..ResourceSpans::default()
        }],
    };
    request.encode_to_vec()
}

/// Returns the number of spans that the collector has rejected, as it states in the body of a
/// successful response. A body that is not of this type states none.
pub(super) fn rejected(body: &[u8]) -> u64 {
    let response = ExportTraceServiceResponse::decode(body);
    let partial = response.ok().and_then(|response| response.partial_success);
    let rejected = partial.map_or(0, |partial| partial.rejected_spans);
    u64::try_from(rejected).unwrap_or(0)
}

fn encode(span: &Span) -> proto::Span {
    let (trace, id, parent) = span.context.ids();
    let start = span.start.duration_since(SystemTime::UNIX_EPOCH);
    let start = start.unwrap_or_default();
    let error = span.error.map(|why| Status {
        code: status::StatusCode::Error.into(),
        message: why.to_owned(),
    });
    let attributes = span.attributes.iter().cloned();
    proto::Span {
        trace_id: trace.to_be_bytes().into(),
        span_id: id.to_be_bytes().into(),
        parent_span_id: parent.map(|id| id.to_be_bytes().into()).unwrap_or_default(),
        flags: SAMPLED,
        name: span.name.clone(),
        kind: kind(span.kind).into(),
        start_time_unix_nano: nanos(start),
        end_time_unix_nano: nanos(start + span.duration),
        attributes: attributes
            .map(|(name, value)| key_value(name, value))
            .collect(),
        status: Some(error.unwrap_or_default()),
        ..proto::Span::default()
    }
}

fn kind(kind: SpanKind) -> span::SpanKind {
    match kind {
        SpanKind::Server => span::SpanKind::Server,
        SpanKind::Client => span::SpanKind::Client,
        SpanKind::Producer => span::SpanKind::Producer,
        SpanKind::Consumer => span::SpanKind::Consumer,
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn key_value(name: &str, value: AttributeValue) -> KeyValue {
    let value = match value {
        AttributeValue::Text(text) => any_value::Value::StringValue(text),
        AttributeValue::Number(number) => any_value::Value::IntValue(number),
    };
    KeyValue {
        key: name.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

/// The flag of a sampled trace, as in a `traceparent`.
const SAMPLED: u32 = 1;
