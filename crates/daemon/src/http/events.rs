//! Events as they happen, as server-sent events.

use super::body::{self, Answer};
use super::places::Place;
use crate::daemon::{Daemon, Ending};
use everup_api::v1::Event;
use hyper::Response;
use hyper::body::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{Sender, channel};

/// So many events are read at once.
const AT_ONCE: usize = 256;
/// A silent stream says that it is there.
const PULSE: Duration = Duration::from_secs(15);

/// The events after this number; without one, those from now on.
pub(super) fn stream(daemon: Arc<Daemon>, after: Option<u64>, place: Place) -> Response<Answer> {
    let (sender, receiver) = channel(4);
    tokio::spawn(async move {
        tokio::select! {
            () = sender.closed() => {}
            () = tell(&daemon, after, &sender) => {}
            () = daemon.ended(Ending::Over) => {}
        }
        drop(place);
    });
    body::lines("text/event-stream", receiver)
}

async fn tell(daemon: &Daemon, after: Option<u64>, sender: &Sender<Bytes>) {
    let mut news = daemon.journal.news();
    let mut last = after.unwrap_or_else(|| daemon.journal.last());
    // The headers are sent with the first bytes.
    if sender.send(Bytes::from_static(b": everup\n\n")).await.is_err() {
        return;
    }
    loop {
        news.borrow_and_update();
        let read = daemon.journal.after(last, AT_ONCE);
        let mut text = String::new();
        if read.skipped > 0 {
            skipped(read.skipped, read.last, &mut text);
        }
        for event in &read.events {
            written(event, &mut text);
        }
        last = read.last;
        if !text.is_empty() {
            if sender.send(text.into()).await.is_err() {
                return;
            }
            continue;
        }
        match tokio::time::timeout(PULSE, news.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return,
            Err(_) => {
                if sender.send(Bytes::from_static(b":\n\n")).await.is_err() {
                    return;
                }
            }
        }
    }
}

fn written(event: &Event, text: &mut String) {
    let json = serde_json::to_string(event).unwrap_or_default();
    text.push_str(&format!(
        "id: {}\nevent: {}\ndata: {json}\n\n",
        event.seq, event.event
    ));
}

fn skipped(events: u64, last: u64, text: &mut String) {
    let mut data = serde_json::Map::new();
    data.insert("events".into(), events.into());
    let event = Event {
        seq: last,
        at: crate::view::now(),
        event: "skipped".into(),
        app: None,
        id: None,
        data,
    };
    let json = serde_json::to_string(&event).unwrap_or_default();
    text.push_str(&format!("event: skipped\ndata: {json}\n\n"));
}
