//! An app's `pubsub.on`: which channels of which caches each VM listens to, and the way of their messages into it.
//!
//! A listener is there before its cache and stays when the cache stops: whenever caches come or go, what isn't joined is
//! joined. It takes the next messages when its handler has ended with the last ones; its queue is in the store.

use std::sync::{Arc, Weak};

use crate::id::AppId;
use crate::limits::{HOOK_BATCH_EVENTS, LISTENS_PER_APP_MAX};
use crate::log::LogLevel;
use crate::store::SharedStore;
use crate::store::feeds::Feed;
use crate::store::pubsub::Scope;

use super::apps::Hosted;
use super::local::Local;
use super::message::ToWorker;

/// What a script asks to hear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// The script's number for it.
    pub id: u64,
    /// The cache.
    pub cache: String,
    /// A pattern, not a channel.
    pub is_pattern: bool,
    /// Its name.
    pub name: Vec<u8>,
}

/// One listener of a VM.
pub struct Listening {
    listen: Listen,
    feed: Arc<Feed>,
    /// The store it is joined to, and its row there.
    joined: Option<(Weak<SharedStore>, u32)>,
    /// Its handler is running over the last messages.
    running: bool,
    /// Dropped messages that were logged.
    told: u64,
}

/// All listeners of one VM.
#[derive(Default)]
pub struct Listenings(Vec<Listening>);

impl Drop for Listenings {
    fn drop(&mut self) {
        self.0.iter().for_each(Listening::leave);
    }
}

impl Listening {
    fn leave(&self) {
        if let Some((store, row)) = &self.joined
            && let Some(store) = store.upgrade()
        {
            store.lock(0).unlisten(*row);
        }
    }

    /// Joins the cache that runs under the name, if it isn't that one already.
    fn join(&mut self, store: Option<Arc<SharedStore>>) {
        let joined = self.joined.as_ref().and_then(|(store, _)| store.upgrade());
        let is_same = match (&store, &joined) {
            (Some(store), Some(joined)) => Arc::ptr_eq(store, joined),
            (None, _) => joined.is_none(),
            (Some(_), None) => false,
        };
        if is_same {
            return;
        }
        self.leave();
        self.joined = store.map(|store| {
            let scope = if self.listen.is_pattern { Scope::Pattern } else { Scope::Channel };
            let row = store.lock(0).listen(scope, &self.listen.name, Arc::clone(&self.feed));
            (Arc::downgrade(&store), row)
        });
    }
}

impl Listenings {
    /// Joins what isn't joined.
    pub fn join(&mut self, find: impl Fn(&str) -> Option<Arc<SharedStore>>) {
        for listening in &mut self.0 {
            let store = find(&listening.listen.cache);
            listening.join(store);
        }
    }
}

impl Local {
    /// A script listens.
    pub fn on_listen(&mut self, hosted: &mut Hosted, listen: Listen) {
        if hosted.listenings.0.len() >= LISTENS_PER_APP_MAX {
            let text =
                format!("pubsub.on: an app listens to at most {LISTENS_PER_APP_MAX} channels");
            return self.log(LogLevel::Error, hosted.name(), text);
        }
        let inbox = Arc::clone(&self.workers[usize::from(self.worker)]);
        let (app, generation) = hosted.key();
        let id = listen.id;
        let tell = Arc::new(move || inbox.send(ToWorker::Heard { app, generation, listen: id }));
        let mut listening =
            Listening { feed: Feed::new(tell), listen, joined: None, running: false, told: 0 };
        listening.join(self.apps.store(&listening.listen.cache));
        hosted.listenings.0.push(listening);
    }

    /// It doesn't any more.
    pub fn on_unlisten(&mut self, hosted: &mut Hosted, id: u64) {
        let list = &mut hosted.listenings.0;
        if let Some(at) = list.iter().position(|listening| listening.listen.id == id) {
            list.remove(at).leave();
        }
    }

    /// Caches have come or gone.
    pub fn join_caches(&mut self) {
        self.apps.join_listeners();
    }

    /// There are messages for a listener, or its handler has ended with the last ones.
    pub fn on_heard(&mut self, app: AppId, generation: u32, id: u64, is_done: bool) {
        let Some(hosted) = self.apps.hosted(app, generation) else { return };
        let Some(text) = hosted.hear(id, is_done) else { return };
        let name = hosted.name().to_owned();
        self.log(LogLevel::Error, &name, text);
    }
}

impl Hosted {
    /// Hands a listener's next messages to its handler; what is to be logged about it.
    pub fn hear(&mut self, id: u64, is_done: bool) -> Option<String> {
        let listening = self.listenings.0.iter_mut().find(|listening| listening.listen.id == id)?;
        listening.running &= !is_done;
        if listening.running {
            return None;
        }
        let (messages, _) = listening.feed.take(HOOK_BATCH_EVENTS);
        listening.running = !messages.is_empty();
        for message in &messages {
            self.vm.on_channel(id, &message.channel, &message.text);
        }
        if !messages.is_empty() {
            self.vm.on_channel_end(id);
        }
        let dropped = listening.feed.dropped();
        let more = dropped - std::mem::replace(&mut listening.told, dropped);
        let name = String::from_utf8_lossy(&listening.listen.name);
        (more > 0).then(|| {
            format!(
                "pubsub.on \"{name}\" is too slow: {more} messages were dropped, {dropped} in all"
            )
        })
    }
}
