//! Every error of the API can be shown and passed on.

use std::error::Error;

use roomcast::{
    AckError, ArgumentError, BuildError, ConnectionError, DrainError, EmitError, EncodeError,
    JoinError, ListenError, Refusal, ServerSideError, TlsError,
    adapter::{AdapterError, InvalidSecrets, Lost, NodeTaken, WireError},
    client::{ClientError, ConnectError},
};

fn is_error<T: Error + Send + Sync + 'static>() {}

#[test]
fn all_errors_implement_display_and_error() {
    is_error::<AckError>();
    is_error::<AdapterError>();
    is_error::<ArgumentError>();
    is_error::<BuildError>();
    is_error::<ClientError>();
    is_error::<ConnectError>();
    is_error::<ConnectionError>();
    is_error::<DrainError>();
    is_error::<EmitError>();
    is_error::<EncodeError>();
    is_error::<InvalidSecrets>();
    is_error::<JoinError>();
    is_error::<ListenError>();
    is_error::<Lost>();
    is_error::<Refusal>();
    is_error::<ServerSideError>();
    is_error::<TlsError>();
    is_error::<NodeTaken>();
    is_error::<WireError>();
    is_error::<roomcast::Error>();
    let error: ConnectError = serde_json::from_str(r#"{"message":"not now"}"#).unwrap();
    assert_eq!(error.to_string(), "not now");
}
