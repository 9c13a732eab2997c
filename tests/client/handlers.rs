//! Handlers and streams of a client.

use std::sync::{Arc, Mutex};

use roomcast::{
    Ack, Args, Event, Io, NoAck, Refusal,
    client::{Client, ClientError, Incoming, Socket},
    testing::{TestServer, serve},
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::suite::{next, value, within};

/// Starts a server that sends its client the requested event and answers with the client's answer.
async fn asking() -> TestServer {
    let io = Io::builder().namespace("/", |namespace| {
        namespace
            .on(
                "ask",
                async |event: Event, name: String, args: Args| match event
                    .socket
                    .emit_with_ack::<Args>(&name, args)
                    .await
                {
                    Ok(answer) => Ok(Ack(answer)),
                    Err(error) => Err(Refusal::new("UNANSWERED", error.to_string())),
                },
            )
            .on("tell", async |event: Event, name: String, args: Args| {
                event.socket.emit(&name, args);
            })
            .on("fail", async |_: Event| {
                Err::<(), _>(Refusal::new("FORBIDDEN", "for admins only").data(json!({"who": 7})))
            })
    });
    serve(io).await
}

async fn connect(server: &TestServer) -> Socket {
    let client = Client::builder(format!("http://{}", server.address()));
    within(client.connect()).await.unwrap()
}

async fn ask(socket: &Socket, name: &str, args: Value) -> Value {
    let request = socket.emit_with_ack::<Value>("ask", (name, args));
    within(request).await.unwrap()
}

#[derive(Deserialize)]
struct Point {
    x: i32,
    y: i32,
}

async fn double(socket: Socket, point: Point, more: Option<i32>) -> Ack<i32> {
    assert!(socket.is_connected());
    Ack(2 * (point.x + point.y + more.unwrap_or(0)))
}

#[tokio::test]
async fn a_handler_takes_typed_arguments_and_its_value_is_the_acknowledgement() {
    let server = asking().await;
    let socket = connect(&server).await;
    socket.on("double", double);
    socket.on("nothing", async || {});
    socket.on("no", async |text: String| {
        Err::<(), _>(Refusal::new("NO", text))
    });
    assert_eq!(ask(&socket, "double", json!({"x": 1, "y": 2})).await, 6);
    assert_eq!(ask(&socket, "nothing", json!(1)).await, Value::Null);
    let refused = ask(&socket, "no", json!("never")).await;
    assert_eq!(
        refused,
        json!({"success": false, "error": {"code": "NO", "message": "never"}})
    );
}

#[tokio::test]
async fn arguments_that_do_not_fit_are_refused_with_their_position() {
    let server = asking().await;
    let socket = connect(&server).await;
    socket.on("double", double);
    let answer = ask(&socket, "double", json!({"x": 1, "y": "2"})).await;
    assert_eq!(answer["error"]["code"], "INVALID_PAYLOAD");
    assert_eq!(answer["error"]["details"]["field"], "y");
}

#[tokio::test]
async fn a_panic_fails_the_one_event_only() {
    let server = asking().await;
    let socket = connect(&server).await;
    socket.on("early", |_: Args| -> std::future::Ready<()> {
        panic!("before the future")
    });
    socket.on("late", async |_: Args| -> () {
        panic!("within the future")
    });
    socket.on("well", async || Ack("well"));
    for name in ["early", "late"] {
        let answer = ask(&socket, name, Value::Null).await;
        assert_eq!(answer["error"]["code"], "INTERNAL", "{name}");
    }
    assert_eq!(ask(&socket, "well", Value::Null).await, "well");
}

#[tokio::test]
async fn several_handlers_are_all_called_and_the_first_answers() {
    let server = asking().await;
    let socket = connect(&server).await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    for word in ["first", "second"] {
        let seen = Arc::clone(&seen);
        socket.on("which", move || {
            seen.lock().unwrap().push(word);
            async move { Ack(word) }
        });
    }
    socket.on_any(async || Ack("any"));
    assert_eq!(ask(&socket, "which", Value::Null).await, "first");
    assert_eq!(*seen.lock().unwrap(), ["first", "second"]);
}

#[tokio::test]
async fn once_is_called_for_one_event() {
    let server = asking().await;
    let socket = connect(&server).await;
    socket.once("which", async || Ack("once"));
    socket.on("which", async || Ack("always"));
    assert_eq!(ask(&socket, "which", Value::Null).await, "once");
    assert_eq!(ask(&socket, "which", Value::Null).await, "always");
}

#[tokio::test]
async fn stream_answers_events_without_a_handler() {
    let server = asking().await;
    let socket = connect(&server).await;
    let mut questions = socket.stream("question");
    let mut all = socket.stream_any();
    let (answer, ()) = tokio::join!(ask(&socket, "question", json!(1)), async {
        let question = next(&mut all).await;
        assert!(question.wants_ack() && !next(&mut questions).await.wants_ack());
        question.ack(("a", 2)).unwrap();
    });
    assert_eq!(answer, "a");
    socket.on("question", async || Ack("b"));
    assert_eq!(ask(&socket, "question", json!(1)).await, "b");
    assert!(!next(&mut questions).await.wants_ack());
}

#[tokio::test]
async fn a_handler_may_wait_for_an_answer_of_the_server() {
    let server = asking().await;
    let socket = connect(&server).await;
    socket.on("inner", async || Ack(21));
    socket.on("outer", async |socket: Socket| {
        let inner: i32 = socket.emit_with_ack("ask", ("inner", 0)).await?;
        Ok::<_, ClientError>(Ack(2 * inner))
    });
    assert_eq!(ask(&socket, "outer", Value::Null).await, 42);
}

#[tokio::test]
async fn handlers_start_in_the_order_of_arrival() {
    let server = asking().await;
    let socket = connect(&server).await;
    let (sender, mut seen) = tokio::sync::mpsc::channel(500);
    socket.on("n", move |n: u32| {
        sender.try_send(n).unwrap();
        async {}
    });
    for n in 0..500 {
        socket.emit("tell", ("n", n)).unwrap();
    }
    for n in 0..500 {
        assert_eq!(within(seen.recv()).await, Some(n));
    }
}

#[tokio::test]
async fn a_refusal_of_the_server_is_an_error_with_its_code() {
    let server = asking().await;
    let socket = connect(&server).await;
    let error = within(socket.emit_with_ack::<u32>("fail", ()))
        .await
        .unwrap_err();
    let ClientError::Refused {
        code,
        message,
        data,
    } = error
    else {
        panic!("{error:?}");
    };
    assert_eq!((&*code, &*message), ("FORBIDDEN", "for admins only"));
    assert_eq!(data.unwrap()["who"], 7);
    let whole: Value = within(socket.emit_with_ack("fail", ())).await.unwrap();
    assert_eq!(whole["success"], false);
}

#[tokio::test]
async fn handler_may_leave_a_request_unanswered() {
    let server = asking().await;
    let socket = connect(&server).await;
    socket.on("silent", async || NoAck);
    let mut seen = socket.stream("seen");
    socket.emit("ask", ("silent", 1)).unwrap();
    socket.emit("tell", ("seen", "after")).unwrap();
    assert_eq!(value::<String>(&mut seen).await, "after");
}

#[tokio::test]
async fn whole_event_can_be_a_parameter() {
    let server = asking().await;
    let socket = connect(&server).await;
    socket.on("x", async |event: Incoming| {
        let first: u8 = event.args.get(0)?;
        Ok::<_, Refusal>(Ack(format!("{} {first} {}", event.name, event.wants_ack())))
    });
    assert_eq!(ask(&socket, "x", json!(3)).await, "x 3 false");
}

#[tokio::test]
async fn tuples_are_acknowledgements_of_several_values_in_both_directions() {
    let io = Io::builder().namespace("/", |namespace| {
        namespace
            .on("two", async |_: Event| Ack((1, "b")))
            .on("ask", async |event: Event| {
                let answer = event.socket.emit_with_ack::<(u8, String)>("place", ());
                answer.await.map(Ack)
            })
    });
    let server = serve(io).await;
    let socket = connect(&server).await;
    socket.on("place", async || Ack((7, "c")));
    let two: (u8, String) = within(socket.emit_with_ack("two", ())).await.unwrap();
    assert_eq!(two, (1, "b".to_owned()));
    let place: (u8, String) = within(socket.emit_with_ack("ask", ())).await.unwrap();
    assert_eq!(place, (7, "c".to_owned()));
}
