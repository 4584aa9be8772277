//! A cache's hooks, channels, and reading through, with the worker played by the test.

use super::*;
use crate::store::hooks::{Batch, HookEvent, HookKind, HookValue, Wanted};

fn event(kind: HookKind, key: &str, value: HookValue) -> HookEvent {
    let key = key.as_bytes().to_vec();
    let command = if kind == HookKind::Written { "set" } else { "" };
    HookEvent { kind, database: 0, key, value, ttl_ms: None, command }
}

fn text(value: &str) -> HookValue {
    HookValue::Text(value.as_bytes().to_vec())
}

#[test]
fn each_hook_gets_its_key_and_value() {
    let mut host = TestHost::new(
        "local function tell(what) return function(...) log.info('%s', what .. ' ' .. require 'socketley.inspect' { n = select('#', ...), ... }) end end
         cache 'db' { on_expire = tell 'expire', on_evict = tell 'evict', on_write = tell 'write', on_delete = tell 'delete' }",
    );
    let collection = HookValue::Collection(b"%1\r\n$1\r\nf\r\n$1\r\n1\r\n".to_vec());
    let written = HookEvent { ttl_ms: Some(1500), ..event(HookKind::Written, "w", text("v")) };
    for event in [
        event(HookKind::Expired, "e", text("gone")),
        event(HookKind::Expired, "h", collection),
        event(HookKind::Evicted, "big", HookValue::TooLarge),
        HookEvent { database: 3, ..written },
        event(HookKind::Deleted, "\u{0}d", HookValue::Absent),
    ] {
        host.vm.on_hook(runtime(0), &event);
    }
    host.vm.on_hooks_end(runtime(0));
    host.turn();
    assert_eq!(
        host.take(),
        [
            "log expire { \"e\", \"gone\", 0, n = 3 }",
            "log expire { \"h\", { f = \"1\" }, 0, n = 3 }",
            "log evict { \"big\", [3] = 0, n = 3 }",
            "log write { \"w\", \"v\", 1.5, \"set\", 3, n = 5 }",
            "log delete { \"\\000d\", 0, n = 2 }",
            "done Events { runtime: RuntimeId(100) }",
        ]
    );
}

/// A write that a slow handler hasn't finished must not be overtaken by the next one of the same key.
#[test]
fn a_hook_that_waits_keeps_the_order_and_the_next_batch_waits_for_it() {
    let mut host = TestHost::new(
        "cache 'db' { on_write = function(key, value) if value == 'slow' then sleep(0.05) end log.info('%s', value) end }
         server 's' { on_message = function(conn, msg) log.info('served') end }",
    );
    for value in ["slow", "quick", "slow", "last"] {
        host.vm.on_hook(runtime(0), &event(HookKind::Written, "k", text(value)));
    }
    host.vm.on_hooks_end(runtime(0));
    host.vm.on_open(runtime(1), connection(1), &peer(1));
    host.vm.on_message(runtime(1), connection(1), b"hello", false);
    host.turn();
    assert_eq!(host.take(), ["log served"], "nobody else waits");
    host.pass(50);
    assert_eq!(host.take(), ["log slow", "log quick"]);
    host.pass(50);
    let done = "done Events { runtime: RuntimeId(100) }";
    assert_eq!(host.take(), ["log slow", "log last", done]);
}

#[test]
fn a_hook_that_fails_is_reported_and_the_next_ones_run() {
    let mut host = TestHost::new(
        "cache 'db' { on_delete = function(key) if key == 'bad' then error('no') end log.info('%s', key) end }",
    );
    for key in ["bad", "good"] {
        host.vm.on_hook(runtime(0), &event(HookKind::Deleted, key, HookValue::Absent));
    }
    host.vm.on_hooks_end(runtime(0));
    host.turn();
    let seen = host.take();
    assert_eq!(seen[0], "failed Some(100)");
    assert!(seen[1].contains("on_delete of cache \"db\""), "{}", seen[1]);
    assert_eq!(seen[2..], ["log good", "done Events { runtime: RuntimeId(100) }"]);
}

/// The store that scripts know as `db`, and a host whose first definition serves it.
fn with_store(app: AppSource) -> (Arc<SharedStore>, TestHost) {
    let store = store("db");
    store.lock(0).attach_hooks(0, Wanted::MISS.with(Wanted::WRITE), 0, Arc::new(|| {}));
    let stores = TestStores(vec![("db".to_owned(), Arc::clone(&store))]);
    let vm = load_with(app, stores).0.unwrap_or_else(|error| panic!("the file loads: {error}"));
    let mut host = TestHost::over(vm);
    host.commit(None);
    (store, host)
}

/// Asks for a key as a script does, and answers what `on_miss` lands.
fn landed(host: &mut TestHost, store: &SharedStore, key: &str) -> Result<(), String> {
    let (sender, receiver) = std::sync::mpsc::channel();
    let on_landed = Box::new(move |outcome| drop(sender.send(outcome)));
    store.lock(0).ask_for(0, &[key.as_bytes()], on_landed);
    let asked = store.lock(0).take_hooks(0, 0).asked;
    host.vm.on_miss(runtime(0), &asked[0]);
    host.turn();
    host.pass(100);
    let outcome = receiver.try_recv().expect("it has landed");
    outcome.map_err(|line| String::from_utf8_lossy(&line).into_owned())
}

fn call(store: &SharedStore, line: &str) -> String {
    let mut session = store.session(0);
    let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
    let mut out = Vec::new();
    store.call(&mut session, &words, 0, &mut out);
    String::from_utf8_lossy(&out).replace("\r\n", " ").trim_end().to_owned()
}

#[test]
fn on_miss_answers_with_a_value_a_hash_or_nothing() {
    let (store, mut host) = with_store(source(
        "cache 'db' { on_miss = function(key, database)
           if key == 'wait' then sleep(0.05) return 'waited' end
           if key == 'number' then return 5, 10 end
           if key == 'hash' then return { f = 1, g = 'x' }, '2s' end
           if key == 'wrong' then return print end
           if key == 'ttl' then return 'v', {} end
           if key == 'error' then error 'no database' end
           if key == 'self' then return tostring(cache.db:get('self')) end
         end }",
    ));
    for (key, outcome, look, held) in [
        ("wait", Ok(()), "get wait", "$6 waited"),
        ("number", Ok(()), "get number", "$1 5"),
        ("number2", Ok(()), "exists number2", ":0"),
        ("hash", Ok(()), "hget hash g", "$1 x"),
        // A hook that misses the key itself doesn't wait for itself.
        ("self", Ok(()), "get self", "$3 nil"),
    ] {
        assert_eq!(landed(&mut host, &store, key), outcome, "{key}");
        assert_eq!(call(&store, look), held, "{key}");
    }
    assert!(call(&store, "ttl number").trim_start_matches(':').parse::<i64>().unwrap() > 0);
    assert_eq!(store.lock(0).take_hooks(0, 9).events, [], "on_write hears nothing of it");
    host.take();
    for (key, problem) in [
        ("wrong", "on_miss: expected a string, a number, a table of fields or nil, got function"),
        ("ttl", "on_miss: the time to live: expected seconds or a duration"),
        ("error", "no database"),
    ] {
        let refused = "ERR on_miss failed: the log of the cache says why";
        assert_eq!(landed(&mut host, &store, key), Err(refused.to_owned()), "{key}");
        let seen = host.take();
        assert!(seen.iter().any(|line| line.contains(problem)), "{key}: {seen:?}");
    }
}

#[test]
fn the_originals_hooks_keep_their_signature() {
    let owner = Some(Owner { kind: RuntimeKind::Cache, name: "db".to_owned(), port: 0 });
    let text = "
        local function tell(...) log.info('%s', table.concat({ ... }, ' ')) end
        function on_miss(key) if key == 'empty' then return '' end return 'from ' .. key, 0 end
        function on_write(key, value, ttl) tell('write', key, value, ttl) self.set('copy', value) end
        function on_delete(...) tell('delete', ...) end
        function on_expire(...) tell('expire', ...) end";
    let (store, mut host) = with_store(AppSource { owner, ..source(text) });
    assert_eq!(landed(&mut host, &store, "k"), Ok(()));
    assert_eq!((call(&store, "get k"), call(&store, "ttl k")), ("$6 from k".into(), ":-1".into()));
    assert_eq!(landed(&mut host, &store, "empty"), Ok(()));
    assert_eq!(call(&store, "exists empty"), ":0");
    let written =
        HookEvent { ttl_ms: Some(1500), ..event(HookKind::Written, "k", super::hooks::text("v")) };
    host.vm.on_hook(runtime(0), &written);
    host.vm.on_hook(runtime(0), &event(HookKind::Written, "k", super::hooks::text("w")));
    host.vm.on_hook(runtime(0), &event(HookKind::Deleted, "k", HookValue::Absent));
    host.vm.on_hook(runtime(0), &event(HookKind::Expired, "k", super::hooks::text("v")));
    host.turn();
    let lines = ["log write k v 2", "log write k w 0", "log delete k", "log expire k"];
    assert_eq!(host.take(), lines);
    assert_eq!(call(&store, "get copy"), "$1 w");
    assert_eq!(store.lock(0).take_hooks(0, 9).events, [], "self.set is no write for on_write");
}

#[test]
fn a_handler_waits_for_what_on_miss_finds() {
    let store = store("db");
    store.lock(0).attach_hooks(0, Wanted::MISS, 0, Arc::new(|| {}));
    let stores = TestStores(vec![("db".to_owned(), Arc::clone(&store))]);
    let landed = Rc::new(std::cell::RefCell::new(Vec::new()));
    let sender = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let (list, tasks) = (Arc::clone(&sender), Rc::clone(&landed));
    let on_landed = move |task| {
        tasks.borrow_mut().push(task);
        let list = Arc::clone(&list);
        Box::new(move |outcome| list.lock().push((task, outcome))) as crate::store::hooks::OnLanded
    };
    let host = Host {
        worker: 0,
        stores: Rc::new(stores),
        seed: 1,
        watch: slot(),
        on_landed: Rc::new(on_landed),
    };
    let text = "server 's' { on_message = function(conn, key)
        local value, err = cache.db:get(key)
        log.info('%s %s', tostring(value), err and err.code or '-')
        local ok, answer = pcall(string.gsub, 'x', 'x', function() return tostring(cache.db:get('none')) end)
        log.info('%s', answer)
      end }";
    let vm = AppVm::load(Arc::new(source(text)), host, START).0.expect("the file loads");
    let mut host = TestHost::over(vm);
    host.commit(None);
    for number in [1, 2, 3] {
        host.open(number);
        host.message(number, "k");
    }
    host.turn();
    assert_eq!(host.take(), [""; 0], "all wait");
    let asked = store.lock(0).take_hooks(0, 0).asked;
    assert_eq!(asked.len(), 1, "one flight for three handlers");
    store.lock(0).land(asked[0].number, crate::store::hooks::Landing::Text(b"v".to_vec()), None);
    for (task, outcome) in sender.lock().drain(..) {
        host.vm.on_landed(task, &outcome);
    }
    host.turn();
    // Inside string.gsub nothing can wait: a miss is nil there.
    assert_eq!(host.take(), ["log v -", "log nil", "log v -", "log nil", "log v -", "log nil"]);
    host.message(1, "other");
    host.message(2, "third");
    host.turn();
    host.vm.on_landed(landed.borrow()[3], &Err(b"OOM no room".to_vec()));
    host.turn();
    assert_eq!(host.take(), ["log nil OOM", "log nil"]);
    host.pass(crate::limits::MISS_WAIT_MS);
    assert_eq!(host.take(), ["log nil timeout", "log nil"]);
}

#[test]
fn batches_are_written_or_come_again() {
    let mut host = TestHost::new(
        "cache 'db' { write_behind = { every = '1s', max = 10, run = function(batch)
           local row = batch[1]
           if row.key == 'fail' then return nil, 'the disk is full' end
           if row.key == 'raise' then error 'broken' end
           sleep(0.01)
           log.info('%d %s %s %s %s', #batch, row.key, tostring(row.value), tostring(row.ttl), tostring(batch[2].deleted))
         end } }",
    );
    let first = |key: &str| {
        let row =
            "%3\r\n$3\r\nkey\r\n$LEN\r\nKEY\r\n$5\r\nvalue\r\n$1\r\nv\r\n$3\r\nttl\r\n,1.5\r\n";
        let row = row.replace("LEN", &key.len().to_string()).replace("KEY", key);
        let second = "%2\r\n$3\r\nkey\r\n$1\r\nb\r\n$7\r\ndeleted\r\n#t\r\n";
        Batch { keys: 2, rows: format!("*2\r\n{row}{second}").into_bytes() }
    };
    host.vm.on_behind(runtime(0), &first("a"));
    host.turn();
    assert_eq!(host.take(), [""; 0]);
    host.pass(10);
    let done =
        |is_written| format!("done Behind {{ runtime: RuntimeId(100), is_written: {is_written} }}");
    assert_eq!(host.take(), ["log 2 a v 1.5 true".to_owned(), done(true)]);
    for (key, problem) in [("fail", "write_behind: the disk is full"), ("raise", "broken")] {
        host.vm.on_behind(runtime(0), &first(key));
        host.turn();
        let seen = host.take();
        assert!(seen.iter().any(|line| line.contains(problem)), "{seen:?}");
        assert_eq!(seen.last(), Some(&done(false)));
    }
}

#[test]
fn channels_reach_handlers_in_order() {
    let mut host = TestHost::new(
        "local slow = pubsub.on('news', function(message, channel)
           if message == 'slow' then sleep(0.05) end
           log.info('%s: %s', channel, message)
         end)
         pubsub.on('room:*', function(message, channel) log.info('%s: %s', channel, message) end, { workers = 'all' })
         pubsub.on('a*b', print, { pattern = false, cache = 'other' })
         socketley.subscribe('db', 'old[style]', function(message) log.info('old %s', message) end)
         cache 'db' {}
         server 's' { on_message = function(conn, msg) slow:cancel() end }",
    );
    let listens = [
        "listen db news",
        "listen db room:* pattern each",
        "listen other a*b",
        "listen db old[style]",
    ];
    assert_eq!(host.take(), listens);
    let ids = host.listens.clone();
    for message in ["slow", "next"] {
        host.vm.on_channel(ids[0], b"news", message.as_bytes());
    }
    host.vm.on_channel_end(ids[0]);
    host.vm.on_channel(ids[1], b"room:1", b"hi");
    host.vm.on_channel_end(ids[1]);
    host.vm.on_channel(ids[3], b"old[style]", b"m");
    host.turn();
    let done = |at: usize| format!("done Messages {{ listen: {} }}", ids[at]);
    assert_eq!(host.take(), ["log room:1: hi".to_owned(), done(1), "log old m".to_owned()]);
    host.pass(50);
    assert_eq!(host.take(), ["log news: slow".to_owned(), "log news: next".to_owned(), done(0)]);
    host.vm.on_open(runtime(1), connection(1), &peer(1));
    host.vm.on_message(runtime(1), connection(1), b"stop", false);
    host.vm.on_channel(ids[0], b"news", b"unheard");
    host.turn();
    assert_eq!(host.take(), ["unlisten 0"]);
}

#[test]
fn mistakes_with_channels_are_named() {
    for (code, problem) in [
        ("pubsub.on(5, print)", "app.lua:1: pubsub.on: channel: expected a string, got number"),
        ("pubsub.on('c')", "app.lua:1: pubsub.on: expected a function, got nil"),
        ("pubsub.on('c', print, 5)", "app.lua:1: pubsub.on: options: expected a table, got number"),
        ("pubsub.on('c', print, { cache = {} })", "cache: expected a cache or its name, got table"),
        ("publish('c', {})", "app.lua:1: publish: message: expected a string, got table"),
        ("publish({}, 'm')", "app.lua:1: publish: channel: expected a string, got table"),
    ] {
        let lines = logs_of(&format!("log.info('%s', select(2, pcall(function() {code} end)))"));
        assert!(lines[0].contains(problem), "{code}: {lines:?}");
    }
    let lines = logs_of("log.info('%s', publish('c', 'm'))");
    assert_eq!(lines, ["log 0"], "the daemon's only cache is meant");
    let mut host = TestHost::new("cache 'a' {} cache 'b' {} pubsub.on('c', print)");
    let seen = host.take();
    assert!(seen[0].contains("there are several caches: say which"), "{seen:?}");
}
