//! Every error of the API can be displayed and propagated.

use std::error::Error;

use roomcast::{
    AckError, BuildError, Refusal,
    adapter::{
        AdapterError, InvalidSecrets, LostMessages, NodeIdConflict, Unopened, WireError, nats,
        postgres, redis,
        values::{NoValueStore, ValueError},
    },
    client::{ClientError, ConnectError},
    connection::ConnectionError,
    errors::{
        ArgumentError, DrainError, EmitError, EncodeError, JoinError, ListenError, ServerSideError,
    },
    limit::{Refused, TooManyBlocks},
    network::InvalidNetwork,
    service::TlsError,
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
    is_error::<InvalidNetwork>();
    is_error::<InvalidSecrets>();
    is_error::<JoinError>();
    is_error::<ListenError>();
    is_error::<LostMessages>();
    is_error::<NoValueStore>();
    is_error::<NodeIdConflict>();
    is_error::<Refusal>();
    is_error::<Refused>();
    is_error::<ServerSideError>();
    is_error::<TlsError>();
    is_error::<TooManyBlocks>();
    is_error::<Unopened>();
    is_error::<ValueError>();
    is_error::<WireError>();
    is_error::<nats::InvalidUrl>();
    is_error::<postgres::InvalidUrl>();
    is_error::<redis::InvalidUrl>();
    is_error::<roomcast::Error>();
    let error: ConnectError = serde_json::from_str(r#"{"message":"not now"}"#).unwrap();
    assert_eq!(error.to_string(), "not now");
    let text = TooManyBlocks.to_string();
    assert_eq!(text, "the block list is full: it has 10000 networks");
}
