//! cjson's settings, which scripts can read and change; they hold for all scripts of the store.
//!
//! Must not know: how values are encoded.
#![allow(unsafe_code, reason = "C functions that Lua calls")]

use std::ffi::c_int;

use mlua_sys::lua_State;

use super::cjson::enter;
use super::stack::{Function, Kind, Stack};

/// The functions by name.
pub(super) const FUNCTIONS: &[(&str, Function)] = &[
    ("encode_sparse_array", encode_sparse_array),
    ("encode_max_depth", encode_max_depth),
    ("decode_max_depth", decode_max_depth),
    ("encode_number_precision", encode_number_precision),
    ("encode_keep_buffer", encode_keep_buffer),
    ("encode_invalid_numbers", encode_invalid_numbers),
    ("decode_invalid_numbers", decode_invalid_numbers),
];

/// A whole number argument between bounds, if there is one.
fn setting(stack: Stack, argument: c_int, least: f64, most: f64) -> Option<f64> {
    if stack.kind(argument) == Kind::Nil {
        return None;
    }
    let value = stack.check_number(argument);
    if value < least || value > most {
        stack.raise_argument(argument, c"expected integer in range");
    }
    Some(value.trunc())
}

unsafe extern "C-unwind" fn encode_sparse_array(state: *mut lua_State) -> c_int {
    // SAFETY: registered with a machine.
    let (stack, machine) = unsafe { enter(state) };
    let json = &mut machine.json;
    if stack.kind(1) == Kind::Boolean {
        json.sparse_convert = stack.boolean(1);
    }
    if let Some(value) = setting(stack, 2, 0.0, f64::from(i32::MAX)) {
        json.sparse_ratio = value as usize;
    }
    if let Some(value) = setting(stack, 3, 0.0, f64::from(i32::MAX)) {
        json.sparse_safe = value as usize;
    }
    stack.push_boolean(json.sparse_convert);
    stack.push_number(json.sparse_ratio as f64);
    stack.push_number(json.sparse_safe as f64);
    3
}

unsafe extern "C-unwind" fn encode_max_depth(state: *mut lua_State) -> c_int {
    // SAFETY: registered with a machine.
    let (stack, machine) = unsafe { enter(state) };
    if let Some(value) = setting(stack, 1, 1.0, 1000.0) {
        machine.json.encode_depth = value as usize;
    }
    stack.push_number(machine.json.encode_depth as f64);
    1
}

unsafe extern "C-unwind" fn decode_max_depth(state: *mut lua_State) -> c_int {
    // SAFETY: registered with a machine.
    let (stack, machine) = unsafe { enter(state) };
    if let Some(value) = setting(stack, 1, 1.0, 1000.0) {
        machine.json.decode_depth = value as usize;
    }
    stack.push_number(machine.json.decode_depth as f64);
    1
}

unsafe extern "C-unwind" fn encode_number_precision(state: *mut lua_State) -> c_int {
    // SAFETY: registered with a machine.
    let (stack, machine) = unsafe { enter(state) };
    if let Some(value) = setting(stack, 1, 1.0, 14.0) {
        machine.json.precision = value as i32;
    }
    stack.push_number(f64::from(machine.json.precision));
    1
}

unsafe extern "C-unwind" fn encode_keep_buffer(state: *mut lua_State) -> c_int {
    // SAFETY: registered with a machine.
    let (stack, machine) = unsafe { enter(state) };
    if stack.kind(1) == Kind::Boolean {
        machine.json.keep_buffer = stack.boolean(1);
    }
    stack.push_boolean(machine.json.keep_buffer);
    1
}

unsafe extern "C-unwind" fn encode_invalid_numbers(state: *mut lua_State) -> c_int {
    // SAFETY: registered with a machine.
    let (stack, machine) = unsafe { enter(state) };
    match stack.kind(1) {
        Kind::Boolean => machine.json.encode_invalid = u8::from(stack.boolean(1)),
        Kind::String if stack.text(1) == b"null" => machine.json.encode_invalid = 2,
        Kind::Nil => {}
        _ => stack.raise_argument(1, c"invalid option"),
    }
    match machine.json.encode_invalid {
        2 => stack.push_bytes(b"null"),
        flag => stack.push_boolean(flag == 1),
    }
    1
}

unsafe extern "C-unwind" fn decode_invalid_numbers(state: *mut lua_State) -> c_int {
    // SAFETY: registered with a machine.
    let (stack, machine) = unsafe { enter(state) };
    if stack.kind(1) == Kind::Boolean {
        machine.json.decode_invalid = stack.boolean(1);
    }
    stack.push_boolean(machine.json.decode_invalid);
    1
}
