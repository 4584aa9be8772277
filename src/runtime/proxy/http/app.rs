//! The app's part in a request: where it goes, or what answers it.

use crate::lua::vm::AppVm;
use crate::lua::{HttpAct, HttpRequest, Route};
use crate::runtime::local::Local;

use super::{Stage, choice, dispatch, front_at, is_tls, requests};

/// Asks the app where the request under way goes.
pub fn ask_app(local: &mut Local, slot: u32) {
    choice::read_fields(local, slot);
    let tls = is_tls(local.connections.at(slot));
    let Some(front) = front_at(local, slot) else { return };
    let Some(request) = front.exchange.request else { return };
    let head = std::mem::take(&mut front.exchange.head);
    let fields = std::mem::take(&mut local.proxy.fields);
    let event = HttpRequest {
        number: 0,
        route: None,
        head: &head,
        request: &request,
        fields: &fields,
        parameters: &[],
        body: &[],
        tls,
    };
    let is_told = match local.vm_of(slot) {
        Some((vm, runtime, id)) => {
            vm.on_route_request(runtime, id, &event);
            true
        }
        None => false,
    };
    local.proxy.fields = fields;
    if let Some(front) = front_at(local, slot) {
        front.exchange.head = head;
    }
    if !is_told {
        dispatch::on_route(local, slot, Route::Refused);
    }
}

/// The app answers the request itself.
pub fn on_act(local: &mut Local, vm: &AppVm, slot: u32, act: &HttpAct) {
    if front_at(local, slot).is_none_or(|front| front.stage != Stage::Routing) {
        return;
    }
    match *act {
        HttpAct::Respond { status, fields, body } => {
            let (fields, body) = (vm.bytes(fields.0, fields.1), vm.bytes(body.0, body.1));
            requests::answer(local, slot, status, fields, body);
        }
        // What a server's handlers can do beside that can't be asked for here.
        _ => requests::fail(local, slot, 500),
    }
}
