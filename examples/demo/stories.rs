//! The *story service*: a text that grows in a room, word by word, as a language model writes one.
//!
//! Laws: the words of a story are sent by the story's own thread, one behind the other, and each
//! tells its place, so that a page knows whether the beginning is missing. Nothing is kept here: a
//! page that comes later, or again, is brought what there is by the gateway's history.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::json;
use uuid::Uuid;

use super::gateway::{Gateway, event};
use super::target::room;

/// Most stories that are told at once; each has a thread.
const MAX_TOLD: usize = 20;

const STORY: &str = "Once upon a time there was a page that listened to a stream. One evening \
    somebody stumbled over the line, and the stream fell silent in the middle of a word. The page \
    did not worry. It remembered the last thing that it had heard, waited a little, and asked for \
    what came behind it. And because somebody at the other end had kept it all, the story went on \
    as if nothing had happened.";

pub(crate) struct Stories {
    gateway: Arc<dyn Gateway>,
    told: AtomicUsize,
}

impl Stories {
    pub(crate) fn new(gateway: Arc<dyn Gateway>) -> Stories {
        Stories {
            gateway,
            told: AtomicUsize::new(0),
        }
    }

    /// Begins to tell one that takes so long; `None` when too many are told.
    pub(crate) fn tell(self: &Arc<Self>, name: &str, time: Duration) -> Option<String> {
        if self.told.fetch_add(1, Ordering::Relaxed) >= MAX_TOLD {
            self.told.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let story = Uuid::new_v4().to_string();
        let (stories, id, name) = (Arc::clone(self), story.clone(), name.to_owned());
        let run = move || {
            stories.run(&id, &name, time, thread::sleep);
            stories.told.fetch_sub(1, Ordering::Relaxed);
        };
        if thread::Builder::new().spawn(run).is_err() {
            self.told.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(story)
    }

    fn run(&self, story: &str, name: &str, time: Duration, pause: impl Fn(Duration)) {
        let words: Vec<&str> = STORY.split_whitespace().collect();
        for (at, word) in words.iter().enumerate() {
            if at > 0 {
                pause(time / words.len() as u32);
            }
            let data = json!({
                "room": name, "story": story, "at": at, "of": words.len(), "word": word,
            });
            self.gateway
                .send(&json!({"channel": room(name), "event": event("room_word", &data)}));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::gateway::fake::Fake;
    use super::*;

    #[test]
    fn a_story_is_its_words_in_their_order() {
        let fake = Arc::<Fake>::default();
        let stories = Stories::new(Arc::clone(&fake) as Arc<dyn Gateway>);
        stories.run("s", "x", Duration::ZERO, |_| {});
        let words = STORY.split_whitespace().enumerate();
        let of = STORY.split_whitespace().count();
        let expected = words.map(|(at, word)| format!("room:x room_word {at} {of} x s {word}"));
        assert_eq!(fake.sent(), expected.collect::<Vec<_>>());
    }

    #[test]
    fn those_that_are_told_are_bounded() {
        let fake = Arc::<Fake>::default();
        let stories = Arc::new(Stories::new(fake as Arc<dyn Gateway>));
        for _ in 0..MAX_TOLD {
            assert!(stories.tell("x", Duration::from_secs(3600)).is_some());
        }
        assert_eq!(stories.tell("x", Duration::ZERO), None);
    }
}
