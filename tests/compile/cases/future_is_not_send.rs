use std::rc::Rc;

use roomcast::{Event, Io};

async fn say(_: Event, text: String) {
    let text = Rc::new(text);
    std::future::ready(()).await;
    drop(text);
}

fn main() {
    Io::builder().namespace("/", |namespace| namespace.on("say", say));
}
