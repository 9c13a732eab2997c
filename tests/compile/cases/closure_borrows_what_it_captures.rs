use roomcast::{Event, Io};

fn main() {
    let greeting = String::from("hello");
    Io::builder().namespace("/", |namespace| {
        namespace.on("greet", async move |event: Event| {
            event.socket.emit("greeting", &greeting);
        })
    });
}
