//! Requests to the app, and what its handlers ask for.

use crate::limits;
use crate::lua::{AppVm, BodyPiece, HttpRequest};
use crate::proto::http1::{Request, parse_request};
use crate::runtime::local::Local;

pub use crate::lua::HttpAct as Act;

use super::intake::{self, Piece};
use super::respond::{self, Reply};
use super::routes::Parameters;
use super::state;

/// Hands a request to the app.
pub(super) fn tell(
    local: &mut Local,
    slot: u32,
    number: u32,
    (head, request): (&[u8], &Request),
    route: Option<u32>,
    parameters: &Parameters,
    body: &[u8],
) {
    let mut fields = std::mem::take(&mut local.http.fields);
    // A body may have come meanwhile, and other heads with it: the fields are this head's only if nothing was read since.
    if !body.is_empty() && parse_request(head, request.method.start as usize, &mut fields).is_err()
    {
        fields.clear();
    }
    let tls = matches!(local.connections.at(slot).layer, crate::runtime::connection::Layer::Tls(_));
    let event = HttpRequest {
        tls,
        number,
        route,
        head,
        request,
        fields: &fields,
        parameters: &parameters.spans[..parameters.count],
        body,
    };
    let is_told = match local.vm_of(slot) {
        Some((vm, runtime, id)) => {
            vm.on_request(runtime, id, &event);
            true
        }
        None => false,
    };
    local.http.fields = fields;
    if !is_told {
        respond::status(local, slot, number, 503);
    }
}

/// Carries out what a handler asked for.
pub fn on_act(local: &mut Local, vm: &mut AppVm, slot: u32, number: u32, act: &Act) {
    match *act {
        Act::Respond { status, fields, body } => {
            let (fields, body) = (vm.bytes(fields.0, fields.1), vm.bytes(body.0, body.1));
            respond::whole(local, slot, number, &Reply { status, fields, body });
        }
        Act::Begin { status, fields } => {
            respond::begin(local, slot, number, status, vm.bytes(fields.0, fields.1));
        }
        Act::Write { start, len } => respond::piece(local, slot, number, vm.bytes(start, len)),
        Act::End => respond::end(local, slot, number),
        Act::Fail => respond::fail(local, slot, number),
        Act::Pass => intake::pass(local, slot, number),
        Act::Detach { is_event_stream } => {
            let http = state(local.connections.at(slot));
            if let Some((exchange, _)) = http.and_then(|http| http.exchange(number)) {
                exchange.is_detached = true;
                exchange.is_event_stream = is_event_stream;
            }
        }
        Act::Read { task } => {
            if let Some((task, piece)) = intake::read_piece(local, slot, number, task) {
                give(vm, task, &piece);
            }
        }
        Act::Drain { task } => {
            let connection = local.connections.at(slot);
            let is_low = connection.outbox.bytes() < limits::OUTBOX_LOW_BYTES;
            match state(connection) {
                Some(http) if !is_low => http.draining = Some(task),
                _ => vm.on_timer(task),
            }
        }
    }
}

fn give(vm: &mut AppVm, task: u64, piece: &Piece) {
    vm.on_body(
        task,
        match piece {
            Piece::Data(bytes) => BodyPiece::Data(bytes),
            Piece::End => BodyPiece::End,
            Piece::Broken => BodyPiece::Broken,
        },
    );
}

/// The next piece of a body is there for a handler that waits for it.
pub(super) fn wake_reader(local: &mut Local, slot: u32, task: u64, piece: Piece) {
    if let Some(vm) = vm_that_knows(local, slot) {
        give(vm, task, &piece);
    }
}

/// There is room for more of an answer.
pub(super) fn wake_writer(local: &mut Local, slot: u32, task: u64) {
    if let Some(vm) = vm_that_knows(local, slot) {
        vm.on_timer(task);
    }
}

fn vm_that_knows(local: &mut Local, slot: u32) -> Option<&mut AppVm> {
    let connection = local.connections.at(slot);
    let (index, generation) = (connection.instance, connection.generation);
    let app = local.instance_at(index).app()?;
    local.apps.vm(app, generation)
}
