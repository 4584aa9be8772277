//! Bytes in: heads become exchanges, bodies are collected, streamed or dropped.

use crate::limits;
use crate::lua::Handlers;
use crate::proto::http1::{Event, Request, RequestError, Version, parse_request};
use crate::runtime::Protocol;
use crate::runtime::connection::{Pause, Phase};
use crate::runtime::limiter;
use crate::runtime::local::Local;
use crate::runtime::server::websocket;
use crate::runtime::stats::StatsCell;

use super::respond::{self, Reply};
use super::routes::{Answer, Found, Parameters, TEXT_FIELD};
use super::{Exchange, Http, Record, Stage, app, files, state, time};

/// What becomes of the body that is being read.
#[derive(Debug, Default)]
pub(super) enum Intake {
    /// None is, or nothing of it is wanted any more: it is dropped, up to a bound.
    #[default]
    None,
    /// It is collected; then the request is dispatched.
    Collect(Box<Collect>),
    /// A handler takes it piece by piece.
    Stream(Stream),
}

/// A request that waits for its body.
#[derive(Debug)]
pub(super) struct Collect {
    head: Vec<u8>,
    request: Request,
    plan: Plan,
    body: Vec<u8>,
}

/// A body that a handler reads.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) number: u32,
    /// The task that waits for the next piece.
    pub(super) task: Option<u64>,
    /// The client waits to be told to send it.
    expects_continue: bool,
}

/// Who answers a request.
#[derive(Clone, Copy, Debug)]
pub(super) enum Plan {
    /// The app: a route's function, or `on_http_request`.
    App { route: Option<u32>, stream: bool, parameters: Parameters, missing: u16 },
    /// A route's constant.
    Constant(u32),
    /// The runtime's folder, or this status.
    File(u16),
    /// A status of our own.
    Status(u16),
}

/// Bytes of an HTTP connection whose handler doesn't wait.
pub fn on_bytes(local: &mut Local, slot: u32, bytes: &[u8]) {
    let connection = local.connections.at(slot);
    if !connection.input.is_empty() {
        connection.input.extend_from_slice(bytes);
        return on_input(local, slot);
    }
    let used = read(local, slot, bytes);
    if let Some(connection) = local.connections.get_mut(slot)
        && connection.phase == Phase::Open
    {
        connection.input.extend_from_slice(&bytes[used..]);
    }
    after(local, slot);
}

/// Whether a request makes the connection a WebSocket, or is turned away for its errors in asking for that.
fn is_upgrade(local: &mut Local, slot: u32, request: &Request) -> bool {
    let index = local.connections.at(slot).instance;
    request.upgrade && local.instance_at(index).config().protocol == Protocol::Auto
}

/// Goes on with a connection's input.
pub fn on_input(local: &mut Local, slot: u32) {
    let mut input = std::mem::take(&mut local.connections.at(slot).input);
    let used = read(local, slot, &input);
    if let Some(connection) = local.connections.get_mut(slot)
        && connection.phase == Phase::Open
    {
        input.drain(..used);
        if input.is_empty() && input.capacity() > limits::INPUT_KEEP_BYTES {
            input = Vec::new();
        }
        connection.input = input;
    }
    after(local, slot);
}

/// Bytes came while a handler waits: it may be for them.
pub fn on_parked_bytes(local: &mut Local, slot: u32) {
    if let Some((task, piece)) = next_piece(local, slot) {
        app::wake_reader(local, slot, task, piece);
    }
}

/// What is left unread stops the reading; the time that a peer may take is bounded.
fn after(local: &mut Local, slot: u32) {
    let Some(connection) = local.connections.get_mut(slot) else { return };
    if connection.phase != Phase::Open {
        return;
    }
    if connection.input.len() > limits::INPUT_HIGH_BYTES {
        local.pause(slot, Pause::PARKED);
    } else {
        local.resume(slot, Pause::PARKED);
    }
    on_parked_bytes(local, slot);
    time::watch(local, slot);
}

/// Reads what can be read of `bytes`; how many are used up.
fn read(local: &mut Local, slot: u32, bytes: &[u8]) -> usize {
    let mut used = 0;
    while used < bytes.len() {
        let connection = local.connections.at(slot);
        let is_open = connection.phase == Phase::Open && !connection.parked;
        let is_full = connection.outbox.is_above_high();
        let Some(http) = state(connection) else { break };
        if !is_open || http.is_closing || matches!(http.intake, Intake::Stream(_)) {
            break;
        }
        let was_in_body = http.reader.is_in_body();
        http.is_blocked =
            !was_in_body && (is_full || http.pending.len() >= limits::HTTP_PIPELINE_MAX);
        if http.is_blocked {
            break;
        }
        let before = http.reader;
        let mut reader = before;
        let event = reader.next(&bytes[used..], &mut local.http.fields);
        if let Some(http) = state(local.connections.at(slot)) {
            http.reader = reader;
        }
        match event {
            Ok(Some(Event::Head { request, end })) if is_upgrade(local, slot, &request) => {
                let Some(http) = state(local.connections.at(slot)) else { break };
                if !http.pending.is_empty() {
                    // It becomes another protocol's when the answers before have left.
                    (http.reader, http.is_blocked) = (before, true);
                    break;
                }
                let fields = std::mem::take(&mut local.http.fields);
                let (head, rest) = bytes[used..].split_at(end);
                websocket::upgrade_http(local, slot, head, &request, &fields, rest);
                local.http.fields = fields;
                return bytes.len();
            }
            Ok(Some(Event::Head { request, end })) => {
                on_head(local, slot, &bytes[used..used + end], request);
                used += end;
            }
            Ok(Some(Event::Data(range))) => {
                let (start, end) = (used + range.start, used + range.end);
                used = end;
                on_body(local, slot, &bytes[start..end]);
            }
            Ok(Some(Event::End(count))) => {
                used += count;
                on_body(local, slot, &[]);
            }
            Ok(None) if was_in_body => used = bytes.len(),
            Ok(None) => break,
            Err(error) => {
                refuse(local, slot, error);
                return bytes.len();
            }
        }
    }
    // A connection that closes takes nothing more, but for a body that a handler reads.
    let is_over = local
        .connections
        .get_mut(slot)
        .and_then(state)
        .is_none_or(|http| http.is_closing && !matches!(http.intake, Intake::Stream(_)));
    if is_over { bytes.len() } else { used }
}

/// A stream of bytes that can't go on: the answer says why, and the connection closes behind it.
fn refuse(local: &mut Local, slot: u32, error: RequestError) {
    let worker = local.worker;
    let index = local.connections.at(slot).instance;
    StatsCell::add(&local.instance_at(index).cell(worker).protocol_errors, 1);
    close_with(local, slot, error.status());
}

/// Answers with a status behind all other answers, and reads nothing more.
pub(super) fn close_with(local: &mut Local, slot: u32, status: u16) {
    let Some(http) = state(local.connections.at(slot)) else { return };
    http.is_closing = true;
    http.intake = Intake::None;
    let number = http.open(Exchange::new(false));
    respond::status(local, slot, number, status);
}

impl Exchange {
    fn new(keep_alive: bool) -> Exchange {
        Exchange {
            stage: Stage::Waiting,
            is_head: false,
            is_http10: false,
            keep_alive,
            is_detached: false,
            is_event_stream: false,
            ready: Vec::new(),
            passed: None,
            file: None,
            record: None,
        }
    }
}

/// A head has come: who answers, and what becomes of the body.
fn on_head(local: &mut Local, slot: u32, head: &[u8], request: Request) {
    let worker = local.worker;
    let index = local.connections.at(slot).instance;
    let instance = local.instance_at(index);
    StatsCell::add(&instance.cell(worker).messages, 1);
    limiter::spent(local, slot, 0, 1);
    let plan = plan(local, index, head, &request);
    let now_ms = local.now.monotonic_ms();
    let Some(http) = state(local.connections.at(slot)) else { return };
    http.head_since_ms = 0;
    http.seen_bytes = 0;
    time::begin_body(http, now_ms);
    if !http.reader.is_in_body() {
        return dispatch(local, slot, head, &request, plan, &[]);
    }
    let limit = local.instance_at(index).config().http.max_body_bytes as u64;
    let is_stream = matches!(plan, Plan::App { stream: true, .. });
    let is_too_large =
        matches!(request.body, crate::proto::http1::Body::Length(length) if length > limit);
    if is_too_large && !is_stream {
        return close_with(local, slot, 413);
    }
    if let (Plan::Status(status), true) = (plan, request.expects_continue) {
        return close_with(local, slot, status);
    }
    if is_stream {
        dispatch(local, slot, head, &request, plan, &[]);
        if let Some(http) = state(local.connections.at(slot)) {
            let number = http.next.wrapping_sub(1);
            let expects_continue = request.expects_continue;
            http.intake = Intake::Stream(Stream { number, task: None, expects_continue });
        }
        return;
    }
    let Some(http) = state(local.connections.at(slot)) else { return };
    let collect = Collect { head: head.to_vec(), request, plan, body: Vec::new() };
    http.intake = Intake::Collect(Box::new(collect));
    if request.expects_continue && http.pending.is_empty() {
        respond::interim(local, slot);
    }
}

/// A piece of the body that is being collected or dropped; empty at the end of a chunked one.
fn on_body(local: &mut Local, slot: u32, piece: &[u8]) {
    let index = local.connections.at(slot).instance;
    let limit = local.instance_at(index).config().http.max_body_bytes;
    let Some(http) = state(local.connections.at(slot)) else { return };
    http.seen_bytes += piece.len() as u64;
    match &mut http.intake {
        Intake::Collect(collect) => {
            if collect.body.len() + piece.len() > limit {
                return close_with(local, slot, 413);
            }
            collect.body.extend_from_slice(piece);
        }
        Intake::None if http.seen_bytes > limits::HTTP_DROP_BYTES_MAX => {
            http.is_closing = true;
            return respond::advance(local, slot);
        }
        Intake::None | Intake::Stream(_) => {}
    }
    if !http.reader.is_in_body()
        && let Intake::Collect(collect) = std::mem::take(&mut http.intake)
    {
        let Collect { head, request, plan, body } = *collect;
        dispatch(local, slot, &head, &request, plan, &body);
    }
}

/// Who answers a request.
fn plan(local: &mut Local, index: usize, head: &[u8], request: &Request) -> Plan {
    let instance = local.instance_at(index);
    let (has_handler, has_app) =
        (instance.handlers.has(Handlers::ON_HTTP), instance.app().is_some());
    let http = &instance.config().http;
    let method = request.method.of(head);
    if method == b"CONNECT" || method == b"TRACE" {
        return Plan::Status(501);
    }
    let path = path_of(request.path_and_query.of(head));
    let mut parameters = Parameters::default();
    let mut missing = 404;
    if let Some(routes) = &http.routes {
        match routes.find(method, path, &mut parameters) {
            Found::Route(route) => match routes.answer(route) {
                Answer::Constant(_) if !http.middleware => return Plan::Constant(route),
                Answer::Constant(_) => {
                    return Plan::App { route: Some(route), stream: false, parameters, missing };
                }
                Answer::Function { stream } => {
                    return Plan::App { route: Some(route), stream: *stream, parameters, missing };
                }
            },
            Found::OtherMethods => missing = 405,
            Found::Nothing => {}
        }
    }
    parameters.count = 0;
    if has_app && (has_handler || http.middleware) {
        return Plan::App { route: None, stream: false, parameters, missing };
    }
    if http.files.is_some() { Plan::File(missing) } else { Plan::Status(missing) }
}

/// A target's path without its query; an absolute target without a path means the root.
pub(super) fn path_of(path_and_query: &[u8]) -> &[u8] {
    let end = memchr::memchr(b'?', path_and_query).unwrap_or(path_and_query.len());
    if end == 0 { b"/" } else { &path_and_query[..end] }
}

/// A request is complete (or its body is streamed): it becomes an exchange and goes to who answers it.
fn dispatch(local: &mut Local, slot: u32, head: &[u8], request: &Request, plan: Plan, body: &[u8]) {
    let index = local.connections.at(slot).instance;
    let http_config = &local.instance_at(index).config().http;
    let (is_logged, has_files) = (http_config.access_log, http_config.files.is_some());
    let start_ns = local.now.monotonic_ns;
    let mut exchange = Exchange::new(request.keep_alive);
    exchange.is_head = request.method.of(head) == b"HEAD";
    exchange.is_http10 = request.version == Version::Http10;
    if is_logged {
        exchange.record = Some(Box::new(record_of(head, request, start_ns)));
    }
    if let Plan::App { missing, .. } = plan
        && (has_files || missing != 404)
    {
        // From its method on: empty lines before it are of no use.
        let head = head[request.method.start as usize..].to_vec();
        exchange.passed = Some(Box::new((head, missing)));
    }
    let Some(http) = state(local.connections.at(slot)) else { return };
    http.is_closing |= !request.keep_alive;
    let number = http.open(exchange);
    match plan {
        Plan::App { route, parameters, .. } => {
            app::tell(local, slot, number, (head, request), route, &parameters, body);
        }
        Plan::Constant(route) => answer_constant(local, slot, number, route),
        Plan::File(missing) => answer_file(local, slot, number, head, request, missing),
        Plan::Status(405) => {
            let method = request.method.of(head);
            let path = path_of(request.path_and_query.of(head));
            respond::other_methods(local, slot, number, method, path);
        }
        Plan::Status(status) => respond::status(local, slot, number, status),
    }
}

/// Answers from the runtime's folder, or says that nothing is there.
fn answer_file(
    local: &mut Local,
    slot: u32,
    number: u32,
    head: &[u8],
    request: &Request,
    missing: u16,
) {
    let method = request.method.of(head);
    let reads = matches!(method, b"GET" | b"HEAD");
    if reads && files::serve(local, slot, number, head, request) {
        return;
    }
    let path = path_of(request.path_and_query.of(head));
    let index = local.connections.at(slot).instance;
    let has_files = local.instance_at(index).config().http.files.is_some();
    match missing {
        405 => respond::other_methods(local, slot, number, method, path),
        404 if has_files && !reads => respond::read_only(local, slot, number, method),
        status => respond::status(local, slot, number, status),
    }
}

/// A handler didn't want its request: it gets what it would have got without the handler.
pub(super) fn pass(local: &mut Local, slot: u32, number: u32) {
    let exchange = state(local.connections.at(slot)).and_then(|http| http.exchange(number));
    let passed = exchange.and_then(|(exchange, _)| exchange.passed.take());
    let mut fields = std::mem::take(&mut local.http.fields);
    let read = passed.as_ref().map(|passed| parse_request(&passed.0, 0, &mut fields));
    local.http.fields = fields;
    match (passed, read) {
        (Some(passed), Some(Ok(request))) => {
            answer_file(local, slot, number, &passed.0, &request, passed.1);
        }
        _ => respond::status(local, slot, number, 404),
    }
}

fn record_of(head: &[u8], request: &Request, start_ns: u64) -> Record {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let version = if request.version == Version::Http11 { "1.1" } else { "1.0" };
    let (method, target) = (text(request.method.of(head)), text(request.target.of(head)));
    let request = format!("{method} {target} HTTP/{version}");
    Record { request, status: 0, bytes: 0, start_ns }
}

fn answer_constant(local: &mut Local, slot: u32, number: u32, route: u32) {
    let index = local.connections.at(slot).instance;
    let config = local.instance_at(index).config_arc();
    let answer = config.http.routes.as_ref().map(|routes| routes.answer(route));
    match answer {
        Some(Answer::Constant(constant)) => {
            let reply =
                Reply { status: constant.status, fields: &constant.fields, body: &constant.body };
            respond::whole(local, slot, number, &reply);
        }
        _ => respond::status(local, slot, number, 500),
    }
}

/// A handler asks for the next piece of its request's body.
pub(super) fn read_piece(
    local: &mut Local,
    slot: u32,
    number: u32,
    task: u64,
) -> Option<(u64, Piece)> {
    let now_ms = local.now.monotonic_ms();
    let connection = local.connections.at(slot);
    let Some(http) = state(connection) else { return Some((task, Piece::End)) };
    let expects = match &mut http.intake {
        Intake::Stream(stream) if stream.number == number => {
            stream.task = Some(task);
            std::mem::take(&mut stream.expects_continue)
        }
        _ => return Some((task, Piece::End)),
    };
    time::begin_body(http, now_ms);
    if expects {
        respond::interim(local, slot);
    }
    time::watch(local, slot);
    next_piece(local, slot)
}

/// What a handler that reads a body gets.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// Some of it.
    Data(Vec<u8>),
    /// There is no more.
    End,
    /// It can't be read on.
    Broken,
}

/// The next piece of a streamed body, if a task waits for one and there is one.
fn next_piece(local: &mut Local, slot: u32) -> Option<(u64, Piece)> {
    let connection = local.connections.get_mut(slot)?;
    let has_ended = connection.read_ended;
    if state(connection).is_none_or(|http| !matches!(http.intake, Intake::Stream(_))) {
        return None;
    }
    let mut input = std::mem::take(&mut connection.input);
    let http = state(connection)?;
    let taken = take_piece(http, &mut input, &mut local.http.fields, has_ended);
    if let Some((_, Piece::Broken)) = &taken {
        http.is_closing = true;
    }
    let is_done = !http.reader.is_in_body();
    if is_done && taken.is_some() && matches!(taken, Some((_, Piece::End | Piece::Broken))) {
        http.intake = Intake::None;
        http.is_blocked = !input.is_empty();
    }
    let connection = local.connections.at(slot);
    connection.input = input;
    if connection.input.len() <= limits::INPUT_HIGH_BYTES {
        local.resume(slot, Pause::PARKED);
    }
    taken
}

/// The peer takes too long to send a body that a handler reads: the handler is told, and its answer is the last. Tells
/// whether one reads.
pub(super) fn break_stream(local: &mut Local, slot: u32) -> bool {
    let Some(http) = state(local.connections.at(slot)) else { return false };
    let Intake::Stream(stream) = &mut http.intake else { return false };
    let task = stream.task.take();
    http.is_closing = true;
    http.intake = Intake::None;
    if let Some(task) = task {
        app::wake_reader(local, slot, task, Piece::Broken);
    }
    true
}

fn take_piece(
    http: &mut Http,
    input: &mut Vec<u8>,
    fields: &mut Vec<crate::proto::http1::Field>,
    has_ended: bool,
) -> Option<(u64, Piece)> {
    let Intake::Stream(stream) = &mut http.intake else { return None };
    let task = stream.task?;
    let mut data = Vec::new();
    let mut used = 0;
    let mut is_broken = false;
    while http.reader.is_in_body() && used < input.len() && data.len() < limits::HTTP_PIECE_BYTES {
        match http.reader.next(&input[used..], fields) {
            Ok(Some(Event::Data(range))) => {
                data.extend_from_slice(&input[used + range.start..used + range.end]);
                used += range.end;
            }
            Ok(Some(Event::End(count))) => used += count,
            Ok(_) => used = input.len(),
            Err(_) => {
                is_broken = true;
                break;
            }
        }
    }
    input.drain(..used);
    http.seen_bytes += used as u64;
    let piece = if !data.is_empty() {
        Piece::Data(data)
    } else if is_broken || has_ended && http.reader.is_in_body() {
        Piece::Broken
    } else if !http.reader.is_in_body() {
        Piece::End
    } else {
        return None;
    };
    stream.task = None;
    Some((task, piece))
}

/// The answer to a request whose body was being streamed is complete: the rest is dropped, if it comes at all.
pub(super) fn drop_stream(http: &mut Http, number: u32) {
    if let Intake::Stream(stream) = &http.intake
        && stream.number == number
    {
        http.is_closing |= stream.expects_continue;
        http.intake = Intake::None;
        http.seen_bytes = 0;
        http.is_blocked = true;
    }
}

/// The peer has ended its stream and no handler waits: closes, unless answers are due. A request that was cut gets none.
pub fn on_last_bytes(local: &mut Local, slot: u32) {
    let Some(http) = state(local.connections.at(slot)) else { return };
    if !http.is_answering() || http.streams_events() {
        local.close_after_flush(slot);
    }
}

/// What goes with a status of our own.
pub(super) fn status_body(status: u16) -> (Vec<u8>, &'static [u8]) {
    (format!("{status} {}\n", crate::proto::http1::reason(status)).into_bytes(), TEXT_FIELD)
}
