//! Workers that don't answer, operations that meet, streams, the end.

use super::*;

#[test]
fn a_worker_that_does_not_answer_fails_the_request_and_nobody_else() {
    let mut world = World::new(2);
    world.deaf = vec![1];
    let outcome = world.begin(
        "create",
        json!({"type": "server", "name": "a", "start": true, "fields": {"port": 0}}),
    );
    world.settle();
    assert!(outcome.borrow().is_none());
    assert_eq!(world.good("list", json!({}))[0]["status"], "starting");
    world.pass(crate::limits::WORKER_ANSWER_MS);
    let error = outcome.take().unwrap().unwrap_err();
    assert!(error.message.contains("a worker doesn't answer in time"), "{error}");
    assert_eq!(world.good("list", json!({})), json!([]));
}

#[test]
fn operations_on_one_name_take_turns() {
    let mut world = World::new(1);
    world.good("create", json!({"type": "server", "name": "a", "fields": {"port": 0}}));
    let outcomes: Vec<_> = ["start", "stop", "start", "restart", "remove", "start"]
        .into_iter()
        .map(|verb| world.begin(verb, json!({"name": "a"})))
        .collect();
    world.settle();
    let good: Vec<bool> = outcomes.iter().map(|outcome| outcome.take().unwrap().is_ok()).collect();
    assert_eq!(good, [true, true, true, true, true, false]);
    assert!(world.manager.asked.deadline_ms().is_none(), "nothing waits any more");
}

#[test]
fn too_many_operations_on_one_name_are_refused() {
    let mut world = World::new(1);
    world.deaf = vec![0];
    world.good("create", json!({"type": "server", "name": "a", "fields": {"port": 0}}));
    let outcomes: Vec<_> = (0..crate::limits::OPERATIONS_PER_NAME_MAX + 3)
        .map(|_| world.begin("start", json!({"name": "a"})))
        .collect();
    let refused = outcomes.iter().filter(|outcome| outcome.borrow().is_some()).count();
    assert_eq!(refused, 2, "one runs, as many as may wait");
    world.deaf.clear();
    world.settle();
    assert!(outcomes.iter().all(|outcome| outcome.borrow().is_some()));
}

#[test]
fn log_lines_are_streamed_and_bounded() {
    let mut world = World::new(1);
    world.good("create", json!({"type": "server", "name": "a", "fields": {"port": 0}}));
    let of_a = world.manager.subscribe("logs", &json!({"name": "a"})).unwrap();
    let errors = world.manager.subscribe("logs", &json!({"level": "error"})).unwrap();
    assert!(world.manager.subscribe("nonsense", &json!({})).is_err());
    world.manager.log(LogLevel::Info, "a", "one");
    world.manager.log(LogLevel::Error, "b", "two");
    let texts = |items: Vec<Value>| items.iter().map(|i| i["text"].clone()).collect::<Vec<_>>();
    assert_eq!(texts(world.manager.take_published(of_a)), ["one"]);
    assert_eq!(texts(world.manager.take_published(errors)), ["two"]);
    for number in 0..crate::limits::SUBSCRIPTION_FRAMES_MAX + 5 {
        world.manager.log(LogLevel::Info, "a", number.to_string());
    }
    let items = world.manager.take_published(of_a);
    assert_eq!(items[0], json!({"dropped": 5}));
    assert_eq!(items[1]["text"], "5");
    world.manager.unsubscribe(of_a);
    world.manager.log(LogLevel::Info, "a", "nobody listens");
    assert_eq!(world.manager.take_published(of_a), Vec::<Value>::new());
}

#[test]
fn who_attaches_sees_messages_and_the_end() {
    let mut world = World::new(1);
    world.good("create", json!({"type": "server", "name": "a", "fields": {"port": 0}}));
    assert!(world.manager.subscribe("messages", &json!({"name": "a"})).is_err(), "not running");
    world.good("start", json!({"name": "a"}));
    world.told();
    let first = world.manager.subscribe("messages", &json!({"name": "a"})).unwrap();
    let second = world.manager.subscribe("messages", &json!({"name": "a"})).unwrap();
    let connection = crate::id::ConnectionId::new(0, 3, 1);
    let bytes = b"hi \xff".to_vec();
    world.manager.on_message(FromWorker::Message { runtime: RuntimeId(1), connection, bytes });
    let expected = [json!({"connection": connection.bits(), "text": "hi \u{fffd}"})];
    assert_eq!(world.manager.take_published(first), expected);
    world.manager.unsubscribe(first);
    world.settle();
    assert_eq!(world.told(), ["0: observe true", "0: observe true"], "someone still watches");
    world.good("stop", json!({"name": "a"}));
    assert_eq!(world.manager.take_published(second)[1], json!({"ended": true}));
}

#[test]
fn evaluations_are_answered_or_cancelled() {
    let mut world = World::new(1);
    let path = world.write("app.lua", "server a port=0 on_message");
    world.good("apply", json!({"path": path}));
    world.told();
    let first = world.begin("eval", json!({"target": "a", "code": "1 + 1"}));
    let second = Rc::new(RefCell::new(None));
    let place = Rc::clone(&second);
    let answer = Answer::new(move |given| *place.borrow_mut() = Some(given));
    let call = world.manager.call("eval", json!({"target": "app", "code": "loop()"}), answer);
    world.settle();
    assert_eq!(world.told(), ["0: evaluate 1 + 1", "0: evaluate loop()"]);
    let requests: Vec<u64> = world.manager.streams_running();
    world.manager.on_message(FromWorker::Evaluated {
        request: requests[0],
        reply: Ok(json!({"text": "2"})),
    });
    assert_eq!(first.take().unwrap().unwrap()["text"], "2");
    world.manager.cancel(call);
    assert!(second.take().unwrap().is_err());
    world.settle();
    assert_eq!(world.told(), ["0: cancel"]);
    let third = world.begin("eval", json!({"target": "app", "code": "x"}));
    world.good("remove", json!({"name": "app"}));
    assert!(third.take().unwrap().unwrap_err().message.contains("the app has ended"));
}

#[test]
fn the_end_waits_for_the_workers_and_refuses_new_work() {
    let mut world = World::new(2);
    world.good(
        "create",
        json!({"type": "server", "name": "a", "start": true, "fields": {"port": 0}}),
    );
    world.deaf = vec![1];
    world.good("shutdown", json!({"drain_ms": 500}));
    assert!(world.bad("start", json!({"name": "a"})).contains("the daemon is ending"));
    assert!(world.manager.is_ending() && !world.manager.is_ended());
    world.deaf.clear();
    world.settle();
    assert!(world.manager.is_ended());
    world.restart();
    assert_eq!(world.status("a"), "running", "an end isn't a stop");
    world.deaf = vec![0, 1];
    world.manager.shut_down(60_000);
    assert!(!world.manager.is_ended());
    world.manager.shut_down(0);
    assert!(world.manager.is_ended(), "the second time it ends now");
}
