use std::{borrow::Cow, fmt};

use roomcast_protocol::socket::{ArgumentError, EncodeError};
use serde::{Serialize, Serializer, ser::SerializeMap as _};
use serde_json::Value;

/// A rejection that a client receives: why its `CONNECT` or its event was refused.
///
/// A refusal has two wire formats. A refused event is acknowledged with
/// `{"success":false,"error":{"code":…,"message":…}}`. A refused `CONNECT` is answered with a
/// `CONNECT_ERROR` of `{"message":…,"data":{"code":…}}`. In both, the fields of
/// [`data`](Self::data) are siblings of the code.
///
/// ```
/// use roomcast::Refusal;
///
/// let refusal = Refusal::new("E_AUTH", "not authorized").data(serde_json::json!({"retry": 5}));
/// assert_eq!(refusal.code(), "E_AUTH");
/// assert_eq!(
///     serde_json::to_string(&refusal).unwrap(),
///     r#"{"code":"E_AUTH","message":"not authorized","retry":5}"#,
/// );
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal(Box<RefusalInner>);

#[derive(Clone, Debug, PartialEq)]
struct RefusalInner {
    code: Cow<'static, str>,
    message: Cow<'static, str>,
    data: Value,
    reason: Option<Cow<'static, str>>,
    /// Whether the refusal counts as a violation of the client's address.
    is_violation: bool,
}

impl Refusal {
    /// Creates a refusal with a code for programs and a message for people. An empty code is
    /// omitted.
    pub fn new(code: impl Into<Cow<'static, str>>, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(RefusalInner {
            code: code.into(),
            message: message.into(),
            data: Value::Null,
            reason: None,
            is_violation: false,
        }))
    }

    /// Creates the answer to all invalid credentials: `UNAUTHENTICATED`, without details. The
    /// reason is only logged.
    ///
    /// With a [guard](crate::Builder::guard), it counts towards an automatic block of the client's
    /// address ([`AddressLimits::block_after_credentials`](crate::options::AddressLimits)), unless
    /// it is [`excused`](Self::excused).
    pub fn unauthenticated(reason: impl Into<Cow<'static, str>>) -> Self {
        let mut refusal = Self::new(UNAUTHENTICATED, "unauthorized").because(reason);
        refusal.0.is_violation = true;
        refusal
    }

    /// Excludes the refusal from the violations of the client's address, for example if the client
    /// sent no credentials.
    #[must_use]
    pub fn excused(mut self) -> Self {
        self.0.is_violation = false;
        self
    }

    /// Returns whether the refusal counts as a violation of the client's address.
    pub(crate) fn is_violation(&self) -> bool {
        self.0.is_violation
    }

    /// Sets the reason for the log, which replaces the message there. Clients never receive it.
    #[must_use]
    pub fn because(mut self, reason: impl Into<Cow<'static, str>>) -> Self {
        self.0.reason = Some(reason.into());
        self
    }

    /// Returns the reason for the log.
    #[must_use]
    pub fn reason(&self) -> &str {
        self.0.reason.as_deref().unwrap_or(&self.0.message)
    }

    /// Adds data for the client. The fields of an object are added to those of the refusal.
    ///
    /// In an acknowledgement, any other value becomes the field `details`. In a `CONNECT_ERROR`, it
    /// becomes the whole `data`.
    #[must_use]
    pub fn data(mut self, data: Value) -> Self {
        self.0.data = data;
        self
    }

    /// Returns the code for programs.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.0.code
    }

    /// Returns the message for people.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Returns the value of [`data`](Self::data), or `null`.
    #[must_use]
    pub fn details(&self) -> &Value {
        &self.0.data
    }

    /// Creates the refusal of an event whose arguments do not match its handler.
    ///
    /// `details.field` is the position of the fault: a path within the first argument, or `[0]` for
    /// that argument itself. For other arguments, `[1]` and so on precede the path.
    pub(crate) fn invalid(error: &ArgumentError) -> Self {
        let field = match (error.index(), error.path()) {
            (0, path) if !path.is_empty() => path.to_owned(),
            (index, "") => format!("[{index}]"),
            (index, path) => format!("[{index}].{path}"),
        };
        Self::new(INVALID_PAYLOAD, error.to_string())
            .data(serde_json::json!({"details": {"field": field}}))
    }

    /// Creates the refusal of a missing namespace, with the official server's text.
    pub(crate) fn invalid_namespace() -> Self {
        Self::new("", INVALID_NAMESPACE)
    }

    /// Returns whether this is the refusal of a missing namespace.
    pub(crate) fn is_invalid_namespace(&self) -> bool {
        self.0.code.is_empty() && self.0.message == INVALID_NAMESPACE
    }

    /// Creates the refusal for an internal error, without details.
    pub(crate) fn internal() -> Self {
        Self::new(INTERNAL, "internal error")
    }

    /// Returns whether the refusal is an internal error.
    pub(crate) fn is_internal(&self) -> bool {
        self.0.code == INTERNAL
    }

    /// Returns the field `data` of a `CONNECT_ERROR`.
    pub(crate) fn connect_data(&self) -> Option<Value> {
        match &self.0.data {
            Value::Null if self.0.code.is_empty() => None,
            data @ (Value::Null | Value::Object(_)) => {
                let mut fields = data.as_object().cloned().unwrap_or_default();
                if !self.0.code.is_empty() {
                    fields.insert("code".into(), self.0.code.as_ref().into());
                }
                Some(Value::Object(fields))
            }
            other @ (Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) => {
                Some(other.clone())
            }
        }
    }

    /// Returns the argument of an error acknowledgement.
    pub(crate) fn as_ack(&self) -> impl Serialize + '_ {
        #[derive(Serialize)]
        struct Failed<'a> {
            success: bool,
            error: &'a Refusal,
        }
        Failed {
            success: false,
            error: self,
        }
    }
}

/// Serializes the object in an error acknowledgement: code, message and the added fields.
impl Serialize for Refusal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if !self.0.code.is_empty() {
            map.serialize_entry("code", &self.0.code)?;
        }
        map.serialize_entry("message", &self.0.message)?;
        match &self.0.data {
            Value::Null => {}
            Value::Object(fields) => {
                for (key, value) in fields {
                    // Fields of the application must not duplicate those of the library.
                    if key != "code" && key != "message" {
                        map.serialize_entry(key, value)?;
                    }
                }
            }
            other @ (Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) => {
                map.serialize_entry("details", other)?;
            }
        }
        map.end()
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Refusal {}

/// Converts to `INVALID_PAYLOAD` with the position of the fault.
impl From<ArgumentError> for Refusal {
    fn from(error: ArgumentError) -> Self {
        Self::invalid(&error)
    }
}

/// An internal error of the application. The client receives no details.
impl From<EncodeError> for Refusal {
    fn from(error: EncodeError) -> Self {
        Self::internal().because(error.to_string())
    }
}

const UNAUTHENTICATED: &str = "UNAUTHENTICATED";
pub(super) const INVALID_PAYLOAD: &str = "INVALID_PAYLOAD";
const INTERNAL: &str = "INTERNAL";
/// The message of the official server for a missing namespace.
const INVALID_NAMESPACE: &str = "Invalid namespace";

#[cfg(test)]
mod tests {
    use roomcast_protocol::socket::{Args, Parser};
    use serde_json::json;

    use super::Refusal;
    use crate::socket::types::{AckError, args};

    #[test]
    fn added_fields_are_next_to_code_and_message() {
        let refusal = Refusal::new("RATE_LIMITED", "slow down")
            .data(json!({"retryAfter": 500, "code": "forged"}));
        assert_eq!(
            serde_json::to_value(refusal.as_ack()).unwrap(),
            json!({"success": false, "error":
                {"code": "RATE_LIMITED", "message": "slow down", "retryAfter": 500}})
        );
    }

    #[test]
    fn refusal_reason_is_logged_but_not_sent() {
        let refusal = Refusal::unauthenticated("wrong signature");
        assert_eq!(refusal.reason(), "wrong signature");
        assert_eq!(
            refusal.connect_data(),
            Some(json!({"code": "UNAUTHENTICATED"}))
        );
        let ack = serde_json::to_string(&refusal.as_ack()).unwrap();
        assert_eq!(
            ack,
            r#"{"success":false,"error":{"code":"UNAUTHENTICATED","message":"unauthorized"}}"#
        );
        assert_eq!(Refusal::new("X", "no").reason(), "no");
        assert!(refusal.is_violation() && !refusal.excused().is_violation());
        assert!(!Refusal::new("UNAUTHENTICATED", "no").is_violation());
    }

    #[test]
    fn invalid_arguments_are_refused_with_their_position() {
        let sent: Args = args::arguments(Parser::Json, &json!({"token": 1})).unwrap();
        let error = sent.get::<String>(0).unwrap_err();
        let text = error.to_string();
        let refusal = Refusal::from(error);
        assert_eq!(refusal.code(), "INVALID_PAYLOAD");
        assert_eq!(refusal.message(), text);
        assert_eq!(refusal.details(), &json!({"details": {"field": "[0]"}}));
        let sent: Args = args::arguments(Parser::Json, &(1, json!({"a": [1]}))).unwrap();
        let field = |refusal: Refusal| refusal.details()["details"]["field"].clone();
        let deep = sent.get::<std::collections::BTreeMap<String, Vec<String>>>(1);
        assert_eq!(field(deep.unwrap_err().into()), "[1].a[0]");
        let first = sent
            .skip(1)
            .get::<std::collections::BTreeMap<String, Vec<String>>>(0);
        assert_eq!(field(first.unwrap_err().into()), "a[0]");
        let answer = sent.get::<String>(0).unwrap_err();
        let text = answer.to_string();
        let refusal = Refusal::from(AckError::Decode(answer));
        assert_eq!(refusal.code(), "INVALID_PAYLOAD");
        assert!(refusal.reason().ends_with(&text), "{}", refusal.reason());
    }

    #[test]
    fn failed_ack_reports_its_reason_unless_internal() {
        assert_eq!(Refusal::from(AckError::Timeout).code(), "TIMEOUT");
        assert_eq!(Refusal::from(AckError::Disconnected).code(), "DISCONNECTED");
        let refusal = Refusal::from(AckError::TooManyPending);
        assert_eq!(
            (refusal.code(), refusal.message()),
            ("INTERNAL", "internal error")
        );
        assert_eq!(
            refusal.reason(),
            "too many acknowledgements are outstanding"
        );
    }

    #[test]
    fn a_connect_error_carries_the_code_in_its_data() {
        let plain = Refusal::new("NO_BETA", "not in the beta");
        assert_eq!(plain.connect_data(), Some(json!({"code": "NO_BETA"})));
        let more = plain.data(json!({"retry": 5}));
        assert_eq!(
            more.connect_data(),
            Some(json!({"retry": 5, "code": "NO_BETA"}))
        );
        assert_eq!(Refusal::new("", "no").connect_data(), None);
        assert_eq!(
            Refusal::new("X", "no").data(json!([1])).connect_data(),
            Some(json!([1]))
        );
    }
}
