//! Interrupts a script of the store VM: the end of a slice pauses it, a kill ends it.
//!
//! The watchdog arms the hook when a slice is over ([`super::super::watchdog`]). Where Lua can yield, the run is paused
//! there, with all of its state, and resumed in a later turn of its worker; in a callback of `table.sort` or
//! `string.gsub` it can't, and such a run ends with an error if that lasts. A kill stays armed, so that a `pcall` in a
//! loop dies too.
#![allow(unsafe_code, reason = "a hook is called with raw states")]

use std::ffi::{CStr, c_int};

use mlua_sys as lua;

use super::super::watchdog::TRUSTED_PREFIX;
use super::machine::{Kill, Machine};
use super::stack::Stack;

unsafe extern "C-unwind" {
    /// Whether the running coroutine can yield; LuaJIT has it, the 5.1 bindings don't list it.
    fn lua_isyieldable(state: *mut lua::lua_State) -> c_int;
}

thread_local! {
    /// The machine whose VM this thread has entered.
    static RUNNING: std::cell::Cell<*mut Machine> = const { std::cell::Cell::new(std::ptr::null_mut()) };
}

/// Says which machine the hook is for.
pub(super) fn set_running(machine: *mut Machine) {
    RUNNING.set(machine);
}

/// Arms the hook for a run that is to end at once. The state is at rest.
pub(super) fn arm(stack: Stack) {
    // SAFETY: a valid state of this thread.
    unsafe { lua::lua_sethook(stack.state(), Some(on_interrupt), lua::LUA_MASKCOUNT, 1) };
}

/// Takes the hook off, if it is on.
pub(super) fn disarm(stack: Stack) {
    // SAFETY: a valid state of this thread; only a field is read.
    if unsafe { lua::lua_gethook(stack.state()) }.is_none() {
        return;
    }
    // SAFETY: a valid state of this thread.
    unsafe { lua::lua_sethook(stack.state(), None, 0, 0) };
}

/// The hook: see the module.
pub(super) unsafe extern "C-unwind" fn on_interrupt(
    state: *mut lua::lua_State,
    debug: *mut lua::lua_Debug,
) {
    // SAFETY: the running state.
    let stack = unsafe { Stack::new(state) };
    let machine = RUNNING.get();
    if machine.is_null() {
        return disarm(stack);
    }
    // SAFETY: LuaJIT passes a valid activation record to its hooks.
    unsafe { lua::lua_getinfo(state, c"S".as_ptr(), debug) };
    // SAFETY: the record is valid, and lua_getinfo has filled this field.
    let source = unsafe { (*debug).source };
    // SAFETY: a string that lives as long as the function.
    let source = unsafe { CStr::from_ptr(source) };
    if source.to_bytes().starts_with(TRUSTED_PREFIX.to_bytes()) {
        return;
    }
    // SAFETY: the machine outlives its VM; no reference to it is in use while Lua's code runs.
    let machine = unsafe { &mut *machine };
    let interrupt = &mut machine.interrupt;
    // SAFETY: the running state.
    let can_yield = unsafe { lua_isyieldable(state) } != 0;
    if interrupt.kill.is_none() && !interrupt.may_suspend {
        interrupt.kill = Some(Kill::Budget);
    }
    if interrupt.kill.is_none() && !can_yield {
        interrupt.stuck += 1;
        if interrupt.stuck < interrupt.stuck_max {
            return disarm(stack);
        }
        interrupt.kill = Some(Kill::Budget);
    }
    if let Some(kill) = interrupt.kill {
        machine.killing = 1;
        raise(stack, kill, interrupt.budget_ms);
    }
    machine.suspending = 1;
    disarm(stack);
    // SAFETY: the running coroutine can yield; this leaves the frame, which owns nothing.
    unsafe { lua::lua_yield(state, 0) };
}

fn raise(stack: Stack, kill: Kill, budget_ms: u32) -> ! {
    match kill {
        // Redis says "with SCRIPT KILL" of functions too.
        Kill::Asked => stack.push_bytes(b"Script killed by user with SCRIPT KILL..."),
        Kill::Budget => {
            let format = c"the script ran longer than its time budget of %d ms and was ended";
            // SAFETY: the format takes one int; nothing on this frame needs a destructor.
            unsafe { lua::lua_pushfstring(stack.state(), format.as_ptr(), budget_ms as c_int) };
        }
    }
    stack.raise()
}
