//! Parameters of handlers other than the arguments of an event.

use roomcast::{
    Ack, Args, BuildError, Connect, Data, Event, Extension, Io, Parser, Principal, Refusal, State,
    errors::ListenError,
    handler::{Parameter, Requirement},
    options::Recovery,
    testing::serve,
};
use serde_json::{Value, json};

struct Language(String);

struct Greeting(&'static str);

/// A parameter of an application, made from an argument and a state.
struct Greeted(String);

impl Parameter for Greeted {
    fn take(event: &Event, position: &mut usize) -> Result<Self, Refusal> {
        let name: String = event.args().get(*position)?;
        *position += 1;
        if name.is_empty() {
            return Err(Refusal::new("NOBODY", "nobody to greet"));
        }
        Ok(Self(format!("{} {name}", event.state::<Greeting>().0)))
    }

    fn needs() -> Requirement {
        Requirement::state::<Greeting>()
    }
}

fn builder() -> roomcast::Builder {
    Io::builder()
        .state(Greeting("hello"))
        .namespace("/", |namespace| {
            namespace
                .authenticate(async |connect: Connect| {
                    assert!(connect.set_data(1_u8).is_none());
                    Ok::<_, Refusal>(Principal::new("ann").with_name("Ann"))
                })
                .middleware(async |connect: Connect, greeting: State<Greeting>| {
                    assert_eq!(connect.data::<u8>().as_deref(), Some(&1));
                    let language = connect.handshake().query_value("language");
                    connect.set_data(Language(language.unwrap_or_else(|| greeting.0.into())));
                    Ok::<_, Refusal>(())
                })
                .on(
                    "who",
                    async |_: Event, who: Principal, language: Data<Language>| {
                        Ack((who.name, language.0.clone()))
                    },
                )
                .on("greet", async |_: Event, greeted: Greeted, n: u8| {
                    Ack((greeted.0, n))
                })
                .on("missing", async |_: Event, _: Data<u64>| Ack(()))
                .on("extension", async |_: Event, _: Extension<u64>| Ack(()))
                .on_error(|failure| {
                    failure.socket.emit("failed", failure.refusal.reason());
                })
        })
}

#[tokio::test]
async fn handlers_take_principal_and_connect_data() {
    let server = serve(builder()).await;
    let client = server.client().query("language", "sv").connect().await;
    let client = client.unwrap();
    let (who, language): (String, String) = {
        let args: Args = client.emit_with_ack("who", ()).await.unwrap();
        (args.get(0).unwrap(), args.get(1).unwrap())
    };
    assert_eq!((&*who, &*language), ("Ann", "sv"));
    let socket = server.io().of("/").socket(client.id()).unwrap();
    assert_eq!(socket.data::<u8>().as_deref(), Some(&1));
}

#[tokio::test]
async fn custom_parameter_takes_arguments_and_may_refuse() {
    let server = serve(builder()).await;
    let client = server.client().connect().await.unwrap();
    let args: Args = client.emit_with_ack("greet", ("Bob", 7)).await.unwrap();
    assert_eq!(args.to_values().unwrap(), [json!("hello Bob"), json!(7)]);
    let refused: Value = client.emit_with_ack("greet", ("", 7)).await.unwrap();
    assert_eq!(refused["error"]["code"], "NOBODY");
    let refused: Value = client.emit_with_ack("greet", (1, 7)).await.unwrap();
    assert_eq!(refused["error"]["code"], "INVALID_PAYLOAD");
}

#[tokio::test]
async fn missing_data_is_reported_only_to_the_application() {
    let server = serve(builder()).await;
    let mut client = server.client().connect().await.unwrap();
    for (event, reason) in [
        ("missing", "the socket has no data `u64`"),
        ("extension", "the request has no extension `u64`"),
    ] {
        let refused: Value = client.emit_with_ack(event, ()).await.unwrap();
        assert_eq!(refused["error"]["message"], "internal error");
        assert_eq!(client.event::<String>("failed").await.unwrap(), reason);
    }
}

#[tokio::test]
async fn no_parameter_may_follow_all_arguments() {
    let io = Io::builder().state(7_u8).namespace("/", |namespace| {
        namespace.on("late", async |_: Event, _: Args, _: u8| {})
    });
    let error = io.build().unwrap_err();
    assert_eq!(error, BuildError::ArgsNotLast("late".into()));
    assert_eq!(
        error.to_string(),
        "the handler of `late` has a parameter after `Args`, which takes all remaining arguments: make `Args` the last one"
    );
    let io = Io::builder().state(7_u8).namespace("/", |namespace| {
        namespace
            .on("all", async |_: Event, _: u8, _: Args, _: State<u8>| {})
            .on("listen", async |event: Event| {
                let listened = event
                    .socket
                    .on("late", async |_: Event, _: Args, _: Args| {});
                Ack(listened == Err(ListenError::ArgsNotLast("late".into())))
            })
    });
    let server = serve(io).await;
    let client = server.client().connect().await.unwrap();
    assert!(client.emit_with_ack::<bool>("listen", ()).await.unwrap());
}

#[test]
fn options_survive_a_config_set_before_or_after() {
    let recovery = Recovery::default().window(std::time::Duration::from_secs(7));
    let window = |io: Io| io.config().recovery.as_ref().map(|on| on.window.as_secs());
    for config_first in [true, false] {
        let io = Io::builder();
        let set = |io: roomcast::Builder| io.recovery(recovery.clone()).parser(Parser::MessagePack);
        let config = roomcast::Config::default;
        let io = match config_first {
            true => set(io.config(config())),
            false => set(io).config(config()),
        }
        .namespace("/", |namespace| namespace);
        let io = io.build().unwrap();
        assert_eq!(io.config().sockets.parser, Parser::MessagePack);
        assert_eq!(window(io), Some(7));
    }
    let config = roomcast::Config::default().recovery(recovery);
    let io = Io::builder()
        .config(config)
        .namespace("/", |namespace| namespace);
    assert_eq!(window(io.build().unwrap()), Some(7));
}
