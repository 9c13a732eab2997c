use crate::suite::{Suite, next, within};

#[tokio::test]
async fn should_have_an_accessible_socket_id_equal_to_the_server_side_socket_id_after_recovery() {
    let suite = Suite::start().await;
    let socket = suite.connect("").await;
    assert!(!socket.recovered());
    let mut hi = socket.stream("hi");
    socket.emit("hi", ()).unwrap();
    next(&mut hi).await; // It has the first offset.
    let id = socket.id();
    let mut connects = socket.stream("connect");
    suite.proxy.cut();
    next(&mut connects).await;
    assert_eq!(socket.id(), id);
    assert!(socket.recovered());
    let server_id: String = within(socket.emit_with_ack("getId", ())).await.unwrap();
    assert_eq!(Some(server_id), id);
}
