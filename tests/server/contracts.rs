//! Typed events, on all sides.

use std::time::Duration;

use roomcast::{
    Ack, Contract, Event, Io, Refusal, Request, State,
    client::{Client, ClientError, Socket},
    testing::serve,
};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Moved {
    pub(crate) x: i32,
}

impl Contract for Moved {
    const EVENT: &'static str = "moved";
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Divide {
    a: i32,
    b: i32,
}

impl Contract for Divide {
    const EVENT: &'static str = "divide";
}

/// Replies with quotient and remainder.
impl Request for Divide {
    type Reply = (i32, i32);
}

fn divide(Divide { a, b }: &Divide) -> Result<Ack<(i32, i32)>, Refusal> {
    let refusal = || Refusal::new("DIVISION_BY_ZERO", "b is zero");
    let quotient = a.checked_div(*b).ok_or_else(refusal)?;
    Ok(Ack((quotient, a % b)))
}

struct Factor(i32);

fn builder() -> roomcast::Builder {
    Io::builder().state(Factor(3)).namespace("/", |namespace| {
        namespace
            .on_contract(
                async |event: Event, moved: Moved, more: Option<i32>, factor: State<Factor>| {
                    let x = moved.x * factor.0 + more.unwrap_or(0);
                    event.socket.send(Moved { x });
                },
            )
            .on_request(async |_: Event, request: Divide| divide(&request))
    })
}

#[tokio::test]
async fn contracts_work_for_servers_and_the_testing_client() {
    let server = serve(builder()).await;
    let mut client = server.client().connect().await.unwrap();
    client.send(Moved { x: 2 }).await.unwrap();
    assert_eq!(client.contract::<Moved>().await.unwrap(), Moved { x: 6 });
    client.emit("moved", (Moved { x: 2 }, 1)).await.unwrap();
    assert_eq!(client.contract::<Moved>().await.unwrap(), Moved { x: 7 });
    let reply = client.request(Divide { a: 7, b: 2 }).await;
    assert_eq!(reply.unwrap(), (3, 1));
    let error = client.request(Divide { a: 7, b: 0 }).await.unwrap_err();
    assert!(error.to_string().contains("DIVISION_BY_ZERO"), "{error}");

    let socket = server.io().of("/").socket(client.id()).unwrap();
    let fetched = server.io().fetch_sockets().await;
    let remote = fetched.sockets[0].clone();
    let long = Duration::from_secs(10);
    let room = server.io().to(client.id());
    let answers = async {
        let direct = socket.request(Divide { a: 1, b: 1 }).await.unwrap();
        let timed = socket.timeout(long).request(Divide { a: 2, b: 1 });
        let timed = timed.await.unwrap();
        let far = remote.request(Divide { a: 3, b: 1 }).await.unwrap();
        let mut all = room.request(Divide { a: 4, b: 1 });
        let all = all.next().await.unwrap().1.unwrap();
        [direct, timed, far, all]
    };
    let answering = async {
        for a in 1..=4 {
            let question = client.next().await.unwrap();
            assert_eq!(question.args.get(0), Ok(Divide { a, b: 1 }));
            client.ack(&question, (a, 0)).await.unwrap();
        }
        remote.send(Moved { x: 9 });
        assert_eq!(client.contract::<Moved>().await.unwrap(), Moved { x: 9 });
    };
    let (answers, ()) = tokio::join!(answers, answering);
    assert_eq!(answers, [(1, 0), (2, 0), (3, 0), (4, 0)]);
}

#[tokio::test]
async fn contracts_work_for_the_client() {
    let server = serve(builder()).await;
    let client = Client::builder(format!("http://{}", server.address()));
    let socket = client.socket().unwrap();
    let (sender, mut moves) = tokio::sync::mpsc::channel(10);
    socket.on_contract(move |moved: Moved, _: Socket| {
        let sent = sender.try_send(moved.x);
        async move { sent.expect("there is room") }
    });
    socket.on_request(async |request: Divide| divide(&request));
    socket.connect().await.unwrap();
    socket.send(Moved { x: 2 }).unwrap();
    assert_eq!(moves.recv().await, Some(6));
    socket.volatile().send(Moved { x: 3 }).unwrap();
    assert_eq!(moves.recv().await, Some(9));
    assert_eq!(socket.request(Divide { a: 7, b: 2 }).await.unwrap(), (3, 1));
    let timed = socket.timeout(Duration::from_secs(10));
    assert_eq!(timed.request(Divide { a: 9, b: 2 }).await.unwrap(), (4, 1));
    let here = server.io().sockets().remove(0);
    assert_eq!(here.request(Divide { a: 5, b: 3 }).await.unwrap(), (1, 2));
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Scale {
    x: i32,
}

impl Contract for Scale {
    const EVENT: &'static str = "scale";
}

impl Request for Scale {
    type Reply = i32;
}

#[tokio::test]
async fn request_handlers_take_further_parameters() {
    let io = Io::builder().state(Factor(3)).namespace("/", |namespace| {
        namespace.on_request(
            async |_: Event, scale: Scale, more: Option<i32>, factor: State<Factor>| {
                Ack(scale.x * factor.0 + more.unwrap_or(0))
            },
        )
    });
    let server = serve(io).await;
    let client = Client::builder(format!("http://{}", server.address()));
    let socket = client.socket().unwrap();
    socket.on_request(async |scale: Scale, more: Option<i32>, socket: Socket| {
        assert!(socket.is_connected());
        Ack(scale.x - more.unwrap_or(0))
    });
    socket.connect().await.unwrap();
    let args = (Scale { x: 2 }, 5);
    assert_eq!(socket.request(Scale { x: 2 }).await.unwrap(), 6);
    let answer = socket.emit_with_ack::<i32>("scale", args.clone()).await;
    assert_eq!(answer.unwrap(), 11);
    // An argument that the parameter cannot hold is refused before the handler runs.
    let wrong = (Scale { x: 2 }, "five");
    let error = socket.emit_with_ack::<i32>("scale", wrong).await;
    assert!(
        matches!(error, Err(ClientError::Refused { .. })),
        "{error:?}"
    );

    let here = server.io().sockets().remove(0);
    assert_eq!(here.request(Scale { x: 2 }).await.unwrap(), 2);
    let answer = here.emit_with_ack::<i32>("scale", args).await;
    assert_eq!(answer.unwrap(), -3);
}
