use super::*;

const FORMER: Uuid = Uuid::from_u128(1);
const PRESENT: Uuid = Uuid::from_u128(2);

/// The growing text of a message, as the readers of a server have it.
struct Followed {
    streams: LiveStreams,
    now: Instant,
}

impl Followed {
    fn new() -> Self {
        let mut streams = LiveStreams::default();
        let now = Instant::now();
        let stream = LiveStream::new(Uuid::nil(), "ann", GrowingText::default(), now);
        streams.streams.insert(1, Box::new(stream));
        Self { streams, now }
    }

    fn receive(&mut self, holder: Uuid, offset: usize, text: &str) -> Result<(), Misfit> {
        self.streams.receive(1, holder, (offset, text), self.now)
    }

    /// Lets an author write the text at this server.
    fn attach(&mut self, holder: Uuid, text: &str) -> SharedText {
        let text = Arc::new(Mutex::new(GrowingText::new(text.into())));
        let local = LocalText {
            holder,
            author: None,
            text: Arc::clone(&text),
        };
        self.streams.attach(1, local, self.now);
        text
    }

    fn text(&self) -> String {
        self.streams.streams[&1].text.lock().whole().to_owned()
    }
}

#[test]
fn late_text_of_a_former_holder_adds_nothing_where_the_author_writes() {
    let mut followed = Followed::new();
    let own = followed.attach(PRESENT, "one ");
    assert_eq!(followed.receive(FORMER, 4, "more"), Ok(()));
    assert_eq!(own.lock().whole(), "one ");
    // The author goes on with another text.
    assert_eq!(own.lock().extend(4, "two"), Ok(3));
    assert_eq!(followed.text(), "one two");
}

#[test]
fn late_text_of_a_former_holder_adds_nothing_for_readers() {
    let mut followed = Followed::new();
    followed.receive(FORMER, 0, "one ").unwrap();
    followed.receive(PRESENT, 4, "two").unwrap();
    assert_eq!(followed.receive(FORMER, 4, "two more"), Ok(()));
    assert_eq!(followed.receive(FORMER, 90, "gap"), Ok(()));
    assert_eq!(followed.receive(PRESENT, 7, " three"), Ok(()));
    assert_eq!(followed.text(), "one two three");
}

#[test]
fn text_that_a_former_holder_had_beyond_is_replaced() {
    let mut followed = Followed::new();
    followed.receive(FORMER, 0, "one more").unwrap();
    assert_eq!(followed.receive(PRESENT, 9, "gap"), Err(Misfit::Gap));
    assert_eq!(followed.receive(PRESENT, 4, "two"), Ok(()));
    assert_eq!(followed.text(), "one two");
}

#[test]
fn server_that_is_no_longer_the_holder_shows_the_text_of_the_present_one() {
    let mut followed = Followed::new();
    let own = followed.attach(FORMER, "one more");
    followed.receive(PRESENT, 4, "two").unwrap();
    assert_eq!(
        (&*followed.text(), own.lock().whole()),
        ("one two", "one more")
    );
    // Its author still writes here.
    followed.attach(FORMER, "one more text");
    assert_eq!(followed.text(), "one two");
}
