use std::time::Duration;

use roomcast::client::{Client, ClientError, Socket};

use crate::{fake::Fake, suite::within};

fn retrying(fake: &Fake, retries: u32, timeout: Duration) -> Socket {
    let client = Client::builder(fake.url()).retries(retries);
    client.ack_timeout(timeout).socket().unwrap()
}

const SOON: Duration = Duration::from_millis(50);
const LATE: Duration = Duration::from_secs(10);

#[tokio::test]
async fn should_preserve_the_order_of_the_packets() {
    let fake = Fake::start().await;
    let socket = retrying(&fake, 1, LATE);
    let answers = tokio::spawn({
        let socket = socket.clone();
        async move {
            tokio::join!(
                socket.emit_with_ack::<u8>("echo", 1),
                socket.emit_with_ack::<u8>("echo", 2),
                socket.emit_with_ack::<u8>("echo", 3),
            )
        }
    });
    socket.open();
    let mut session = fake.connected().await;
    for id in 0..3 {
        assert_eq!(session.next().await, format!("42{id}[\"echo\",{}]", id + 1));
        session.send(&format!("43{id}[{}]", id + 1)).await;
    }
    let (first, second, third) = within(answers).await.unwrap();
    assert_eq!([first.unwrap(), second.unwrap(), third.unwrap()], [1, 2, 3]);
    within(socket.disconnect()).await;
    assert_eq!(session.end().await, ["41"]);
}

#[tokio::test]
async fn should_fail_when_the_server_does_not_acknowledge_the_packet() {
    let fake = Fake::start().await;
    let socket = retrying(&fake, 3, SOON);
    let answer = tokio::spawn({
        let socket = socket.clone();
        async move { socket.emit_with_ack::<()>("ack", ()).await }
    });
    socket.open();
    let mut session = fake.connected().await;
    for id in 0..4 {
        assert_eq!(session.next().await, format!("42{id}[\"ack\"]"));
    }
    let error = within(answer).await.unwrap().unwrap_err();
    assert!(matches!(error, ClientError::Timeout(_)), "{error:?}");
    within(socket.disconnect()).await;
    assert_eq!(session.end().await, ["41"]);
}

#[tokio::test]
async fn should_not_drain_the_queue_while_the_socket_is_disconnected() {
    let fake = Fake::start().await;
    let socket = retrying(&fake, 3, Duration::from_millis(250));
    let answer = tokio::spawn({
        let socket = socket.clone();
        async move { socket.emit_with_ack::<u8>("echo", 1).await }
    });
    // Longer than the timeout of the event.
    tokio::time::sleep(Duration::from_millis(1200)).await;
    socket.open();
    let mut session = fake.connected().await;
    // On a slow machine the first answer is late. The event is repeated then, but not more often.
    let mut answer = answer;
    for id in 0..4 {
        let request = tokio::select! {
            answered = &mut answer => {
                assert!(id > 0, "answered before it was sent");
                return assert_eq!(answered.unwrap().unwrap(), 1);
            }
            request = session.next() => request,
        };
        assert_eq!(request, format!("42{id}[\"echo\",1]"));
        session.send(&format!("43{id}[1]")).await;
    }
    assert_eq!(within(answer).await.unwrap().unwrap(), 1);
}
